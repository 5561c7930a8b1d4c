import keras
import numpy as np
import pytest
from keras import ops

from keras_lrseg.training import SegmentationCrossEntropy
from tests.helpers import loss_and_gradients, normal

K = 5


def labels_of(shape, dtype="uint8", ignored=0.3):
    """Random labels, a share of them ignored."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, K, shape)
    return np.where(rng.random(shape) < ignored, 255, labels).astype(dtype)


def cross_entropy(labels, logits):
    """Mean of log(Σ exp) - the label's logit over the labelled pixels, in float64."""
    valid = labels != 255
    labels, logits = labels[valid], logits[valid].astype("float64")
    own = np.take_along_axis(logits, labels[:, None].astype(int), 1)[:, 0]
    return (np.log(np.exp(logits).sum(-1)) - own).mean()


def loss_of(labels, logits, **settings):
    return ops.convert_to_numpy(SegmentationCrossEntropy(**settings)(labels, logits))


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64"])
@pytest.mark.parametrize("channel", [False, True])
def test_loss_is_the_mean_cross_entropy_of_labelled_pixels(dtype, channel):
    labels, logits = labels_of((2, 6, 9), dtype), 3 * normal(0, (2, 6, 9, K))
    given = labels[..., None] if channel else labels
    expected = cross_entropy(labels, logits)
    np.testing.assert_allclose(loss_of(given, logits), expected, rtol=1e-5)


def test_another_label_can_be_ignored():
    labels, logits = labels_of((1, 8, 8), ignored=0), normal(0, (1, 8, 8, K))
    expected = cross_entropy(np.where(labels == 2, 255, labels), logits)
    loss = loss_of(labels, logits, ignore_class=2)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


@pytest.mark.parametrize("size", [(40, 56), (37, 50)])
def test_logits_at_stride_8_are_enlarged_to_the_labels(size):
    labels, logits = labels_of((2, *size)), 3 * normal(0, (2, 5, 7, K))
    large = ops.convert_to_numpy(
        ops.image.resize(logits, size, "bilinear", data_format="channels_last")
    )
    expected = cross_entropy(labels, large)
    np.testing.assert_allclose(loss_of(labels, logits), expected, rtol=1e-5)
    with_channel = loss_of(labels[..., None], logits)
    np.testing.assert_allclose(with_channel, expected, rtol=1e-5)


def test_batch_without_a_labelled_pixel_has_loss_and_gradient_zero():
    labels, layer = np.full((2, 8, 8), 255, "uint8"), keras.layers.Dense(K)
    layer.build((2, 8, 8, 3))
    loss = SegmentationCrossEntropy()
    value, gradients = loss_and_gradients(
        layer, lambda logits: loss(labels, logits), normal(0, (2, 8, 8, 3))
    )
    assert value == 0
    assert all(np.array_equal(g, np.zeros_like(g)) for g in gradients)


def test_ignored_pixels_have_no_gradient_and_others_have_softmax_minus_one_hot():
    labels = labels_of((1, 4, 6))
    layer = keras.layers.EinsumDense("bhwk,hwk->bhwk", (4, 6, K))  # a weight a logit
    layer.build((1, 4, 6, K))
    loss = SegmentationCrossEntropy()
    _, (gradient,) = loss_and_gradients(
        layer, lambda logits: loss(labels, logits), np.ones((1, 4, 6, K), "float32")
    )
    logits = ops.convert_to_numpy(layer.kernel)
    softmax = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    valid = (labels[0] != 255)[..., None]
    expected = valid * (softmax - (np.arange(K) == labels[0][..., None])) / valid.sum()
    np.testing.assert_allclose(gradient, expected, atol=1e-7)


def test_loss_of_half_precision_logits_is_computed_in_float32():
    labels = labels_of((2, 16, 16))
    logits = ops.cast(3 * normal(0, (2, 2, 2, K)), "bfloat16")
    loss = SegmentationCrossEntropy()(labels, logits)
    assert keras.backend.standardize_dtype(loss.dtype) == "float32"
    rounded = ops.convert_to_numpy(ops.cast(logits, "float32"))
    expected = loss_of(labels, rounded)
    np.testing.assert_allclose(ops.convert_to_numpy(loss), expected, rtol=1e-6)


def test_config_round_trip():
    loss = SegmentationCrossEntropy(ignore_class=0, name="mine")
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert type(again) is SegmentationCrossEntropy
    assert (
        again.get_config() == loss.get_config() == {"ignore_class": 0, "name": "mine"}
    )
    labels, logits = labels_of((1, 4, 4), ignored=0), normal(0, (1, 4, 4, K))
    assert again(labels, logits) == loss(labels, logits)
