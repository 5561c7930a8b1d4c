"""The decoders that LRDecoder is compared with, against their papers' equations."""

from functools import partial

import keras
import numpy as np
import pytest
import scipy.special

from keras_lrseg import SemanticSegmenter
from keras_lrseg.decoders import (
    CrissCrossDecoder,
    DualAttentionDecoder,
    ObjectContextDecoder,
    PyramidPoolingDecoder,
)
from keras_lrseg.decoders.criss_cross_decoder import CrissCrossAttention
from keras_lrseg.decoders.dual_attention_decoder import ChannelAttention, PixelAttention
from keras_lrseg.layers.softmax import means_of_pixels
from keras_lrseg.training import SegmentationCrossEntropy
from tests.checks import check_layer
from tests.helpers import fill, images, normal, numpy, refused, run

PYRAMID = {"P3": (2, 7, 10, 6), "P4": (2, 4, 5, 8), "P5": (2, 2, 3, 10)}
DECODERS = {
    "PPM": partial(PyramidPoolingDecoder, 16),
    "DA": partial(DualAttentionDecoder, 16),
    "CC": partial(CrissCrossDecoder, 16),
    "OCR": partial(ObjectContextDecoder, 16, 5),
}
softmax = scipy.special.softmax


@pytest.mark.parametrize("name", DECODERS)
def test_decoder_is_a_well_behaved_layer(name):
    larger = {k: (b, h + 2, w + 1, c) for k, (b, h, w, c) in PYRAMID.items()}
    check_layer(DECODERS[name], PYRAMID, larger)


@pytest.mark.parametrize("name", DECODERS)
def test_missing_level_is_named(name):
    decoder = DECODERS[name]()
    with refused(f"{type(decoder).__name__} expects", "['P3', 'P4', 'P5']"):
        decoder.build({level: PYRAMID[level] for level in ("P3", "P5")})


@pytest.fixture
def x():
    return normal("features", (2, 4, 6, 16))


def maps(layer, x):
    """Query, key and value of an attention, the pixels in a line."""
    return (
        run(part, x).reshape(2, 24, -1)
        for part in (layer.query, layer.key, layer.value)
    )


def filled(layer, x):
    layer.build(x.shape)
    return fill(layer)


def test_pixel_attention_is_equations_1_and_2(x):
    layer = filled(PixelAttention(), x)
    b, c, d = maps(layer, x)
    s = softmax(b @ c.transpose(0, 2, 1), axis=-1)
    expected = x + numpy(layer.scale) * (s @ d).reshape(x.shape)
    np.testing.assert_allclose(run(layer, x), expected, rtol=1e-4, atol=1e-5)


def test_channel_attention_is_equations_3_and_4(x):
    layer = filled(ChannelAttention(), x)
    a = x.reshape(2, 24, 16)
    scores = a.transpose(0, 2, 1) @ a
    s = softmax(scores.max(-1, keepdims=True) - scores, axis=-1)
    expected = x + numpy(layer.scale) * (a @ s.transpose(0, 2, 1)).reshape(x.shape)
    np.testing.assert_allclose(run(layer, x), expected, rtol=1e-4, atol=1e-5)


def test_criss_cross_attention_sees_its_row_and_column_once(x):
    layer = filled(CrissCrossAttention(), x)
    query, key, value = maps(layer, x)
    scores = query @ key.transpose(0, 2, 1)
    row, column = np.divmod(np.arange(24), 6)
    seen = (row[:, None] == row) | (column[:, None] == column)
    assert seen.sum(1).tolist() == [4 + 6 - 1] * 24
    weights = softmax(np.where(seen, scores, -np.inf), axis=-1)
    expected = x + numpy(layer.scale) * (weights @ value).reshape(x.shape)
    np.testing.assert_allclose(run(layer, x), expected, rtol=1e-4, atol=1e-5)


def test_region_is_the_mean_of_its_pixels(x):
    logits = np.full((2, 4, 6, 2), -1e9, "float32")
    logits[:, :1, :3, 0] = 0  # three pixels belong to the first region
    logits[:, 2, 5, 1] = 0
    means = run(lambda inputs: means_of_pixels(*inputs), [x, logits])
    expected = np.stack([x[:, 0, :3].mean(1), x[:, 2, 5]], axis=1)
    np.testing.assert_allclose(means, expected, rtol=1e-5, atol=1e-6)


def test_regions_of_ocr_learn_by_a_loss_of_their_own():
    x = keras.Input((None, None, 3))
    pyramid = {f"P{i}": keras.layers.AveragePooling2D(2**i)(x) for i in (3, 4, 5)}
    decoder = ObjectContextDecoder(8, 3, name="decoder")
    model = SemanticSegmenter(
        keras.Model(x, pyramid), decoder, keras.layers.Conv2D(3, 1, name="classifier")
    )
    both = keras.Model(model.input, [model.output, decoder.region_output()])
    both.compile("sgd", [SegmentationCrossEntropy()] * 2, loss_weights=[0, 0.4])
    before = numpy(decoder.region_logits.kernel)
    labels = np.random.default_rng(0).integers(0, 3, (2, 32, 64))
    both.fit(images(0, 32, 64, batch=2), [labels, labels], verbose=0)
    assert np.any(numpy(decoder.region_logits.kernel) != before)
