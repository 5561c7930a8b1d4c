"""Offset Learning against the authors' numbers and the equations as written."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_lrseg.checkpoints.classifiers import OFFSET
from keras_lrseg.checkpoints.convert import Names
from keras_lrseg.layers import MaskOffsetLearning, OffsetLearning
from tests.helpers import fill, normal, numpy, refused, run
from tests.reference import (
    assert_offseg,
    assert_offseg_gradients,
    load_layer,
    offseg_inputs,
    offseg_state,
)

# In a fixture the layer's own names, without those of the head around it.
LAYER = Names(*OFFSET.rules, (r"^offset_learning/", ""))


def reference_layer(layer, name, shape):
    return load_layer(layer, shape, "", offseg_state(name), LAYER)


def test_logits_and_gradients_are_the_authors():
    x = offseg_inputs("offset_learning")["x"]
    layer = reference_layer(OffsetLearning(5), "offset_learning", x.shape)
    assert_offseg(run(layer, x), "offset_learning/out")
    assert_offseg_gradients(layer, "offset_learning", LAYER, x)


def test_mask_form_is_the_authors():
    name = "offset_learning_mask"
    inputs = list(offseg_inputs(name).values())
    shapes = [x.shape for x in inputs]
    layer = reference_layer(MaskOffsetLearning(), name, shapes)
    embeddings, features = run(layer, inputs)
    assert_offseg(embeddings, f"{name}/aligned_mask_embed")
    assert_offseg(features, f"{name}/aligned_mask_features")
    assert_offseg_gradients(layer, name, LAYER, inputs)


def plain(layer, x):
    """Equations (4)-(13) and the layer norm as they are written, in float64."""
    inside = f"{layer.name}/"
    weights = {
        w.path.removeprefix(inside): numpy(w).astype("float64") for w in layer.weights
    }
    w = weights["class_representations"]
    e = x.astype("float64").reshape(x.shape[0], -1, x.shape[-1])
    affinity = w @ e.transpose(0, 2, 1)  # (B, K, N)
    adjusted, aligned = w, e
    if layer.class_offset:
        offset = softmax(affinity, -1) @ e
        adjusted = w + offset @ weights["class_projection/kernel"]
    if layer.feature_offset:
        offset = softmax(affinity, 1).transpose(0, 2, 1) @ w
        aligned = e + offset @ weights["feature_projection/kernel"]
    logits = aligned @ np.swapaxes(adjusted, -1, -2)
    centred = logits - logits.mean(-1, keepdims=True)
    logits = centred / np.sqrt(logits.var(-1, keepdims=True) + 1e-5)
    logits = logits * weights["norm/gamma"] + weights["norm/beta"]
    return logits.reshape(*x.shape[:-1], -1)


def softmax(x, axis):
    x = np.exp(x - x.max(axis, keepdims=True))
    return x / x.sum(axis, keepdims=True)


@pytest.mark.parametrize("class_offset", [True, False])
@pytest.mark.parametrize("feature_offset", [True, False])
def test_cheap_order_gives_what_the_equations_give(class_offset, feature_offset):
    layer = OffsetLearning(11, class_offset, feature_offset)
    x = normal("features", (2, 9, 14, 24))
    layer.build(x.shape)
    fill(layer)
    expected = plain(layer, x)
    assert abs(run(layer, x) - expected).max() <= 1e-5 * expected.std()


@pytest.mark.parametrize(
    ("settings", "products"),
    [
        ({}, 3 * 126 * 11 * 24 + 126 * 11**2 + 11**2 * 24),
        ({"feature_offset": False}, 3 * 126 * 11 * 24),
        ({"class_offset": False}, 126 * 11 * 24 + 126 * 11**2 + 11**2 * 24),
        ({"class_offset": False, "feature_offset": False}, 126 * 11 * 24),
    ],
)
def test_products_are_counted_as_they_are_made(settings, products):
    assert OffsetLearning(11, **settings).attention_flops((1, 9, 14, 24)) == products


def test_a_branch_switched_off_has_no_weights():
    layer = OffsetLearning(5, feature_offset=False, name="classifier")
    layer.build((None, None, None, 8))
    paths = [w.path for w in layer.weights]
    assert "classifier/class_projection/kernel" in paths
    assert "classifier/feature_projection/kernel" not in paths


def test_mask_form_is_saved_and_takes_any_number_of_queries_and_pixels(tmp_path):
    inputs = [keras.Input((None, 8)), keras.Input((None, None, 8))]
    model = fill(keras.Model(inputs, MaskOffsetLearning()(inputs)))
    x = [normal("queries", (2, 5, 8)), normal("map", (2, 9, 7, 8))]
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    for a, b in zip(run(again, x), run(model, x), strict=True):
        np.testing.assert_array_equal(a, b)


def test_half_precision_has_range_enough_for_many_pixels():
    """A weight of 2^-17 is less than float16 holds with any precision."""
    x = normal("features", (1, 256, 512, 32))
    results = []
    for dtype in ("float32", "mixed_float16"):
        layer = OffsetLearning(5, feature_offset=False, dtype=dtype)
        layer.build(x.shape)
        fill(layer)
        layer.class_representations.assign(0.02 * normal("classes", (5, 32)))
        results.append(run(layer, ops.cast(x, layer.compute_dtype)))
    expected, half = results
    assert abs(half - expected).max() <= 0.1 * expected.std()


def test_half_precision_has_range_enough_for_large_features():
    x = normal("large", (1, 16, 16, 256))
    layer, half = OffsetLearning(19), OffsetLearning(19, dtype="mixed_float16")
    for each in (layer, half):
        each.build(x.shape)
    half.set_weights(layer.get_weights())
    assert np.isfinite(run(half, 150 * x)).all()
    logits = run(half, x)
    assert logits.dtype == np.float16
    np.testing.assert_allclose(logits, run(layer, x), atol=0.02)


def test_empty_batch_gives_an_empty_result():
    logits = run(fill(OffsetLearning(5)), np.zeros((0, 6, 7, 8), "float32"))
    assert logits.shape == (0, 6, 7, 5)


@pytest.mark.parametrize("num_classes", [1, 0, 2.0, None])
def test_number_of_classes_must_be_an_integer_from_two(num_classes):
    with refused("num_classes", "from 2", repr(num_classes)):
        OffsetLearning(num_classes)


def test_features_of_another_width_are_refused():
    layer = OffsetLearning(5)
    layer.build((None, None, None, 8))
    with pytest.raises(ValueError, match=r"(?s)value 8.*9"):
        layer(ops.ones((1, 4, 4, 9)))
    with refused("as many channels", "8", "9"):
        MaskOffsetLearning().build([(None, 5, 8), (None, None, None, 9)])


def test_documentation_has_the_patent_notice():
    for layer in (OffsetLearning, MaskOffsetLearning):
        assert "Patent notice" in layer.__doc__
        assert issubclass(layer, keras.layers.Layer)
