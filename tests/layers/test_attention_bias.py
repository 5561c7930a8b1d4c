"""Tables of attention biases: their index, and bicubic resizing."""

import numpy as np
import pytest

from keras_lrseg.layers.attention_bias import (
    attention_bias,
    bicubic_matrix,
    relative_positions,
)
from tests.helpers import normal, numpy, run, tensorflow_only

SIZES = [(256, 64), (64, 72), (16, 18), (256, 1024), (49, 1), (10, 9), (7, 23)]


def test_index_is_that_of_the_distance_between_query_and_key():
    index = relative_positions(5, strides=2)
    assert index.shape == (9, 25)
    for q in range(9):
        for k in range(25):
            dy, dx = abs(2 * (q // 3) - k // 5), abs(2 * (q % 3) - k % 5)
            assert index[q, k] == 5 * dy + dx


@pytest.mark.parametrize(("size_in", "size_out"), SIZES)
def test_bicubic_matrix_is_pytorchs(size_in, size_out):
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(normal("x", (1, 1, size_in, 3))).double()
    expected = torch.nn.functional.interpolate(
        x, size=(size_out, 3), mode="bicubic", align_corners=False
    )
    actual = bicubic_matrix(size_in, size_out) @ x[0, 0].numpy()
    np.testing.assert_allclose(actual, expected[0, 0].numpy(), atol=1e-5)


def test_bicubic_matrix_of_the_same_size_is_the_identity():
    np.testing.assert_array_equal(bicubic_matrix(64, 64), np.eye(64))


@tensorflow_only
def test_matrix_for_a_size_unknown_in_the_graph_is_the_same():
    import tensorflow as tf

    graph = tf.function(lambda size_out: bicubic_matrix(256, size_out))
    for size_out in (64, 257, 1024):
        unknown = graph(tf.constant(size_out))
        np.testing.assert_allclose(unknown, bicubic_matrix(256, size_out), atol=1e-6)


@pytest.mark.parametrize(("queries", "keys"), [(16, 64), (9, 64), (16, 30), (6, 77)])
def test_biases_are_the_table_resized_as_an_image(queries, keys):
    torch = pytest.importorskip("torch")
    table = normal("table", (3, 64))
    full = torch.from_numpy(table[:, relative_positions(8, 2)])[None].double()
    expected = torch.nn.functional.interpolate(full, (queries, keys), mode="bicubic")
    actual = run(lambda x: attention_bias(x, 8, 2, queries, keys), table)
    np.testing.assert_allclose(numpy(actual), expected[0].numpy(), atol=1e-5)


@tensorflow_only
@pytest.mark.parametrize("size", [(16, 64), (9, 30)])
def test_biases_are_one_constant_in_an_exported_file(size):
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    import tensorflow as tf

    table = tf.Variable(normal("table", (3, 64)))
    scores = tf.TensorSpec((1, 3, *size))
    graph = tf.function(lambda x: x + attention_bias(table, 8, 2, *size))
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [graph.get_concrete_function(scores)]
    )
    file = interpreter.Interpreter(model_content=converter.convert())
    names = {operation["op_name"] for operation in file._get_ops_details()}
    assert names - {"DELEGATE"} == {"ADD"}
