import keras
import numpy as np
import pytest

from keras_lrseg.checkpoints.convert import (
    Names,
    assign_state_dict,
    to_keras_layout,
)
from tests.helpers import normal, numpy, refused


def test_key_is_the_path_after_all_rules_in_their_order():
    names = Names(("attention", "attn"), (r"attn/query(\d)", r"attn/q/\1"))
    assert names.key("block0/attention/query3/kernel") == "block0.attn.q.3.weight"


def test_tensors_are_renamed_first_and_the_unused_ones_left_out():
    def prepare(state):
        return {key.removeprefix("module."): value for key, value in state.items()}

    names = Names(unused=(r"^counter", r"_table$"), prepare=prepare)
    state = {"module.a.weight": 1, "module.counter.b": 2, "c_table": 3, "a.table_": 4}
    assert names.used(state) == {"a.weight": 1, "a.table_": 4}


@pytest.mark.parametrize(
    ("torch_shape", "keras_shape"), [((6, 1, 1), (6,)), ((1, 4, 3), (4, 3))]
)
def test_what_is_no_kernel_keeps_its_order(torch_shape, keras_shape):
    array = normal("table", torch_shape)
    same = to_keras_layout("a.table", array, keras_shape)
    np.testing.assert_array_equal(same, array.reshape(keras_shape))
    assert to_keras_layout("a.table", array, (3, 4)).shape == torch_shape


@pytest.mark.parametrize(
    ("leaf", "expected"),
    [
        ("kernel", "weight"),
        ("gamma", "weight"),
        ("beta", "bias"),
        ("moving_mean", "running_mean"),
        ("moving_variance", "running_var"),
        ("scale", "scale"),
    ],
)
def test_last_part_gets_pytorchs_name(leaf, expected):
    assert Names().key(f"norm/{leaf}") == f"norm.{expected}"


@pytest.mark.parametrize(
    ("torch_shape", "keras_shape", "formula"),
    [
        ((6, 4, 3, 5), (3, 5, 4, 6), "oikl->klio"),  # convolution
        ((4, 1, 3, 5), (3, 5, 4, 1), "oikl->kloi"),  # depthwise convolution
        ((6, 4), (4, 6), "oi->io"),  # linear map
        ((6, 1, 3, 3), (3, 3, 1, 6), "oikl->klio"),  # convolution of one channel
    ],
)
def test_kernels_are_transposed(torch_shape, keras_shape, formula):
    kernel = normal("kernel", torch_shape)
    expected = np.einsum(formula, kernel)
    np.testing.assert_array_equal(
        to_keras_layout("a.weight", kernel, keras_shape), expected
    )


def test_kernel_of_a_1x1_convolution_becomes_that_of_a_linear_map():
    kernel = normal("kernel", (6, 4, 1, 1))
    linear = to_keras_layout("a.weight", kernel, (4, 6))
    np.testing.assert_array_equal(linear, kernel[:, :, 0, 0].T)


@pytest.fixture
def dense():
    layer = keras.layers.Dense(2)
    layer.build((None, 3))
    return layer


@pytest.fixture
def variables(dense):
    return {"weight": dense.kernel, "bias": dense.bias}


def test_every_tensor_is_assigned(variables):
    state = {
        "weight": normal("weight", (2, 3)),
        "bias": normal("bias", (2,)),
        "bn.num_batches_tracked": np.array(7),  # PyTorch's own count, of no use
    }
    assign_state_dict(variables, state, "file.pth")
    np.testing.assert_array_equal(numpy(variables["weight"]), state["weight"].T)
    np.testing.assert_array_equal(numpy(variables["bias"]), state["bias"])


def test_all_that_does_not_fit_is_listed_and_nothing_assigned(dense, variables):
    state = {"weight": normal("weight", (5, 3)), "other": normal("other", (2,))}
    with refused(
        "file.pth",
        "Missing in the file: bias.",
        "Not used by the model: other.",
        "weight (file (3, 5), model (3, 2))",
        model=dense,
    ):
        assign_state_dict(variables, state, "file.pth")


def test_long_lists_are_cut_and_counted(variables):
    state = {f"key{i}": normal(i, (2,)) for i in range(20)}
    with refused("key7, … (20 in all)"):
        assign_state_dict(variables, state, "file.pth")
