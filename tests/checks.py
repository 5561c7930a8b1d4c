"""One check for every layer, and one for every model."""

import keras
import numpy as np
from keras import ops, tree

from keras_lrseg.training import SegmentationCrossEntropy
from tests.helpers import (
    fill,
    images,
    loss_and_gradients,
    normal,
    numpy,
    pairs,
    run,
    saved_and_loaded,
    tensors,
)

HALF_PRECISION = 0.1  # Largest error, in standard deviations of the output.


def check_layer(make_layer, shapes, larger=None):
    """Assert what must hold for every layer.

    Args:
        make_layer: function from `dtype`, a policy's name, to a new layer.
        shapes: of the input with the batch; a list or dict for several inputs.
        larger: other heights and widths, for inputs whose sizes depend on each other.
    """
    layer = make_layer(dtype="float32")
    model = functional(layer, shapes)
    assert_different_starts(make_layer(dtype="float32"), shapes)
    x = inputs_of(shapes)
    output = run(model, x)

    # Any height and width: unknown when the model is built, odd, not square.
    larger = larger or tree.map_shape_structure(
        lambda s: (s[0], s[1] + 3, s[2] + 2, s[3]), shapes
    )
    y = inputs_of(larger)
    for sizes, batch, result in ((shapes, x, output), (larger, y, run(model, y))):
        expected = layer.compute_output_shape(sizes)
        expected = expected if isinstance(expected, list) else [expected]
        assert [a.shape for a in tree.flatten(result)] == [*map(tuple, expected)]
        if keras.config.backend() == "tensorflow":
            dynamic = run_dynamic(model, batch)
            for a, b in pairs(dynamic, result):
                np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)

    # Its configuration makes the same layer again, and so does a file.
    again = type(layer).from_config(layer.get_config())
    functional(again, shapes).set_weights(model.get_weights())
    assert again.get_config() == layer.get_config()
    for a, b in pairs(run(saved_and_loaded(model), x), output):
        np.testing.assert_array_equal(a, b)

    # Half precision computes in half precision, and about the same values.
    for policy in ("mixed_bfloat16", "mixed_float16"):
        half = functional(make_layer(dtype=policy), shapes)
        dtypes = {tensor.dtype for tensor in tree.flatten(half.output)}
        assert dtypes == {half.layers[-1].compute_dtype} == {policy[6:]}
        assert {weight.dtype for weight in half.weights} <= {"float32"}
        for a, b in pairs(run(half, x), output):
            assert abs(a.astype("float32") - b).max() <= HALF_PRECISION * b.std()
        if keras.config.backend() == "torch" and half.trainable_weights:
            # It lacks kernels for some types.
            _, gradients = loss_and_gradients(half, random_sum, x)
            assert all(np.isfinite(gradient).all() for gradient in gradients)

    # Every weight learns.
    if not model.trainable_weights:
        return
    _, gradients = loss_and_gradients(model, random_sum, x)
    for weight, gradient in zip(model.trainable_weights, gradients, strict=True):
        assert np.isfinite(gradient).all(), weight.path
        assert np.any(gradient), weight.path


def check_trains_and_saves(model, height, width, any_size=True):
    """Assert that a step of `fit` moves every layer, and a saved model is the same.

    Args:
        model: from images to logits of the same size.
        any_size: it runs in a TensorFlow graph that does not know the size.
    """
    x = images(0, height, width, batch=2)
    classes = model.output_shape[-1]
    labels = np.random.default_rng(0).integers(0, classes, (2, height, width))
    before = {weight.path: numpy(weight) for weight in model.trainable_weights}
    model.compile(
        keras.optimizers.Adam(1e-3),
        SegmentationCrossEntropy(),
        metrics=["sparse_categorical_accuracy"],  # KerasHub's own wants one-hot labels
    )
    losses = model.fit(x, labels, batch_size=2, verbose=0).history["loss"]
    assert np.isfinite(losses).all()
    moved = [w for w in model.trainable_weights if np.any(numpy(w) != before[w.path])]
    assert {w.path.split("/")[0] for w in moved} == {p.split("/")[0] for p in before}
    output = run(model, x)
    assert output.shape == (2, height, width, classes)
    assert output.std() > 0
    np.testing.assert_array_equal(run(saved_and_loaded(model), x), output)
    if any_size and keras.config.backend() == "tensorflow":
        dynamic = run_dynamic(model, x)
        np.testing.assert_allclose(dynamic, output, rtol=1e-3, atol=1e-5)


def assert_different_starts(layer, shapes):
    """Assert that no two random weights of a layer start alike."""
    layer.build(shapes)
    random = [w for w in map(numpy, layer.trainable_weights) if w.std() > 0]
    for i, weight in enumerate(random):
        alike = (w for w in random[:i] if w.shape == weight.shape)
        assert not any(np.array_equal(w, weight) for w in alike)


def random_sum(outputs):
    """A scalar that depends on every value of the outputs."""
    return sum(
        ops.sum(y * ops.convert_to_tensor(normal("factors", y.shape)))
        for y in tree.flatten(outputs)
    )


def run_dynamic(model, inputs):
    """Run a model in a TensorFlow graph that knows no batch, height or width."""
    import tensorflow as tf

    unknown = tree.map_structure(
        lambda x: tf.TensorSpec((None, None, None, x.shape[3]), x.dtype), inputs
    )
    return numpy(tf.function(model, input_signature=[unknown])(tensors(inputs)))


def functional(layer, shapes):
    """A functional model of one layer, for inputs of any height and width."""
    unknown = tree.map_shape_structure(lambda s: (None, None, s[3]), shapes)
    if isinstance(shapes, dict):
        inputs = {name: keras.Input(s, name=name) for name, s in unknown.items()}
    else:
        inputs = tree.map_shape_structure(keras.Input, unknown)
    return fill(keras.Model(inputs, layer(inputs)))


def inputs_of(shapes):
    return tree.map_shape_structure(lambda s: normal(str(s), s), shapes)
