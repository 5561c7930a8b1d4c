"""What the tests share: seeded numbers, one way to run, comparisons."""

import contextlib
import inspect
import json
import pathlib
import tempfile
import zlib

import keras
import numpy as np
import pytest
from keras import ops, tree
from keras.src.backend.common import global_state

tensorflow_only = pytest.mark.skipif(
    keras.config.backend() != "tensorflow",
    reason="only TensorFlow's graphs have sizes unknown until they run",
)


def normal(seed, shape):
    """Standard normal float32; `seed` is an integer, or a name whose CRC-32 it is."""
    if isinstance(seed, str):
        seed = zlib.crc32(seed.encode())
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def images(seed, height, width, batch=1):
    """Images as if normalised, (B, H, W, 3), drawn in PyTorch's layout."""
    return normal(seed, (batch, 3, height, width)).transpose(0, 2, 3, 1)


def fill(layer, seed=0):
    """Give a built layer or model seeded weights of ordinary size."""
    for i, variable in enumerate(layer.weights, 1000 * seed):
        values = 0.3 * normal(i, variable.shape)
        if variable.name in ("gamma", "moving_variance"):
            values = 1 + abs(values)
        variable.assign(values)
    return layer


def no_random_start():
    """Build models whose weights are assigned next, without compiling random ones."""
    is_jax = keras.config.backend() == "jax"
    return no_weights() if is_jax else contextlib.nullcontext()


@contextlib.contextmanager
def no_weights():
    """Build models without allocating weights, to count them."""
    try:
        with keras.StatelessScope(initialize_variables=False):
            yield
    finally:  # Else the next scope to end would allocate them after all.
        global_state.set_global_attribute("uninitialized_variables", [])


@contextlib.contextmanager
def refused(*words, model=None, error=ValueError):
    """Assert that the body raises one line with `words` and leaves `model` alone."""
    before = [np.array(w) for w in model.get_weights()] if model else []
    with pytest.raises(error) as caught:
        yield
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert str(word) in message
    after = model.get_weights() if model else []
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


# Compiling takes it most of a minute, and what is tested is the same everywhere.
slow_on_jax = pytest.mark.slow if keras.config.backend() == "jax" else lambda test: test


def run(function, inputs):
    """Call a layer, model or function of one argument; NumPy in, NumPy out."""
    inputs = tensors(inputs)
    if keras.config.backend() == "jax":  # Op by op, JAX compiles for minutes.
        import jax

        is_model = isinstance(function, keras.Model)
        function = function.predict_on_batch if is_model else jax.jit(function)
    return numpy(function(inputs))


def tensors(inputs):
    return tree.map_structure(ops.convert_to_tensor, inputs)


def numpy(outputs):
    return tree.map_structure(ops.convert_to_numpy, outputs)


def loss_and_gradients(layer, loss, inputs, training=False):
    """Return the loss of the layer's output and a gradient for every trainable weight.

    Weights that the layer updates itself, such as moving means, are updated.

    Args:
        loss: function from the output to a scalar tensor.
    """
    inputs = tensors(inputs)
    variables = layer.trainable_variables
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            value = loss(layer(inputs, training=training))
        gradients = tape.gradient(value, [v.value for v in variables])
    elif keras.config.backend() == "jax":
        import jax

        # Unlike calling the layer, this does not leave out what its `call` lacks.
        takes_training = "training" in inspect.signature(layer.call).parameters
        settings = {"training": training} if takes_training else {}

        def stateless(trained, others):
            output, others = layer.stateless_call(trained, others, inputs, **settings)
            return loss(output), others

        others = layer.non_trainable_variables
        (value, updated), gradients = jax.jit(
            jax.value_and_grad(stateless, has_aux=True)
        )([v.value for v in variables], [v.value for v in others])
        for variable, new in zip(others, updated, strict=True):
            variable.assign(new)
    else:
        import torch

        value = loss(layer(inputs, training=training))
        gradients = torch.autograd.grad(value, [v.value for v in variables])
    return float(numpy(value)), numpy(list(gradients))


def pairs(actual, expected):
    return zip(tree.flatten(actual), tree.flatten(expected), strict=True)


def saved_and_loaded(model):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.keras"
        model.save(path)
        return keras.saving.load_model(path)


def assert_same_model(actual, expected):
    assert as_json(actual.get_config()) == as_json(expected.get_config())
    assert_same_weights(actual, expected)


def assert_same_weights(actual, expected):
    for weight, other in zip(actual.weights, expected.weights, strict=True):
        assert weight.path == other.path
        np.testing.assert_array_equal(numpy(weight), numpy(other), weight.path)


def as_json(config):
    return json.loads(json.dumps(config))  # Files hold lists where we have tuples.
