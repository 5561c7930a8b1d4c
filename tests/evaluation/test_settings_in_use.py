"""What each setting does to what the model sees and to what comes out."""

import dataclasses
import tracemalloc

import keras
import numpy as np
import pytest

from keras_lrseg import evaluation
from keras_lrseg.evaluation import predict_labels, predict_logits, resize
from tests.evaluation.cases import Blocks, picture
from tests.training.toys import toy_segmenter

Settings = evaluation.TestSettings
WINDOWS = Settings(window=(48, 40), stride=(30, 25))


def spread(logits, size):
    return resize.resize(logits[0], size)


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)


@pytest.mark.parametrize("size", [(70, 93), (48, 65), (78, 41), (49, 40)])
def test_logits_are_the_mean_over_the_windows_that_hold_a_pixel(size):
    image, model = picture(size), Blocks()
    layers = []
    for top in range(0, size[0], 30):
        for left in range(0, size[1], 25):
            if (top and top + 48 - 30 >= size[0]) or (left and left + 15 >= size[1]):
                continue  # the window before reached the border
            top_, left_ = min(top, size[0] - 48), min(left, size[1] - 40)
            cell = slice(top_, top_ + 48), slice(left_, left_ + 40)
            layer = np.full((*size, 5), np.nan)
            crop = image[cell]
            layer[cell] = spread(model.predict_on_batch(crop[None]), crop.shape[:2])
            layers.append(layer)
    expected = np.nanmean(layers, axis=0)
    assert np.isfinite(expected).all()
    seen = Blocks()
    logits = predict_logits(seen, image, WINDOWS)
    np.testing.assert_allclose(logits, expected, atol=1e-6)
    assert len(seen.sizes) == len(layers)
    assert set(seen.sizes) == {(48, 40)}  # one compilation


def test_image_smaller_than_the_window_is_seen_whole():
    image = picture((40, 33))
    whole = predict_logits(Blocks(), image)
    np.testing.assert_array_equal(predict_logits(Blocks(), image, WINDOWS), whole)


def test_windows_slide_over_the_resized_image():
    model = Blocks()
    settings = dataclasses.replace(WINDOWS, short_side=60, long_side=300)
    labels = predict_labels(model, picture((100, 150)), settings)  # seen as 60 × 90
    assert labels.shape == (100, 150)
    assert model.sizes == [(48, 40)] * 2 * 3


def test_alignment_stretches_and_the_logits_come_back():
    image, model = picture((75, 110)), Blocks()
    settings = Settings(50, 200, align=32)  # 50 × 73, then 64 × 96
    logits = predict_logits(model, image, settings)
    assert model.sizes == [(64, 96)]
    seen = resize.resize_image(resize.resize_image(image, (50, 73)), (64, 96))
    expected = spread(Blocks().predict_on_batch(seen[None]), (64, 96))
    np.testing.assert_array_equal(logits, resize.resize(expected, (75, 110)))


def test_padding_is_right_and_below_in_the_mean_colour_and_is_cut_off():
    class Seeing(Blocks):
        def predict_on_batch(self, images):
            self.image = images[0]
            return super().predict_on_batch(images)

    image, model = picture((50, 73)), Seeing()
    logits = predict_logits(model, image, Settings(pad=32))
    assert model.image.shape == (64, 96, 3)
    np.testing.assert_array_equal(model.image[:50, :73], image)
    assert (model.image[50:] == (124, 116, 104)).all()
    assert (model.image[:, 73:] == (124, 116, 104)).all()
    padded = spread(Blocks().predict_on_batch(model.image[None]), (64, 96))
    np.testing.assert_array_equal(logits, padded[:50, :73])


def test_scales_and_mirrors_are_averaged_as_softmax():
    image, model = picture((64, 80)), Blocks()
    settings = Settings(scales=(0.5, 1.0, 1.5), flip=True)
    logits = predict_logits(model, image, settings)
    sizes = [(32, 40), (32, 40), (64, 80), (64, 80), (96, 120), (96, 120)]
    assert model.sizes == sizes
    expected = 0
    for size in sizes[::2]:
        seen = resize.resize_image(image, size)
        for step in (1, -1):
            values = Blocks().predict_on_batch(seen[None, :, ::step])
            values = spread(values, size)[:, ::step]
            expected += softmax(resize.resize(values, (64, 80))) / 6
    np.testing.assert_allclose(np.exp(logits), expected, atol=1e-6)
    labels = predict_labels(Blocks(), image, settings)
    np.testing.assert_array_equal(labels, expected.argmax(-1))


@pytest.mark.parametrize("options", [{}, {"window": (40, 40), "stride": (24, 24)}])
def test_with_flip_the_mirrored_image_has_the_mirrored_logits(options):
    image, settings = picture((64, 81)), Settings(flip=True, **options)
    logits = predict_logits(Blocks(), image, settings)
    mirrored = predict_logits(Blocks(), image[:, ::-1], settings)
    np.testing.assert_allclose(mirrored[:, ::-1], logits, atol=1e-5)
    alone = dataclasses.replace(settings, flip=False)
    assert abs(predict_logits(Blocks(), image, alone) - logits).max() > 0.1


@pytest.mark.parametrize(
    "settings", [Settings(), WINDOWS, Settings(48, 99, scales=(1.0, 2.0), flip=True)]
)
def test_labels_are_the_largest_logits_in_strips_of_any_height(settings, monkeypatch):
    image = picture((70, 93))
    logits = predict_logits(Blocks(), image, settings)
    assert logits.shape == (70, 93, 5)
    assert logits.dtype == np.float32
    assert len(np.unique(logits.argmax(-1))) > 2
    for strip in (resize.STRIP, 7 * 93 * 5, 1):
        monkeypatch.setattr(resize, "STRIP", strip)
        labels = predict_labels(Blocks(), image, settings)
        np.testing.assert_array_equal(labels, logits.argmax(-1))


@pytest.mark.parametrize(
    "settings",
    [
        Settings(96, 999),
        Settings(96, 999, scales=(0.5, 1.0), flip=True),
        Settings(window=(64, 64), stride=(48, 48)),
        Settings(window=(64, 64), stride=(48, 48), scales=(0.5, 1.0)),
    ],
)
def test_memory_holds_no_logits_of_the_whole_image(settings, monkeypatch):
    monkeypatch.setattr(resize, "STRIP", 2**16)
    model, image = Blocks(), np.zeros((1600, 1200, 3), "uint8")
    model.predict_on_batch(image[None, :96, :96])  # imports what it needs
    logits = 1600 * 1200 * Blocks.output_shape[-1] * 4  # bytes
    assert peak_of(predict_labels, model, image, settings) < 0.4 * logits


@pytest.mark.parametrize("reverse", [False, True])
def test_a_strip_of_a_mirrored_view_copies_no_more_than_its_rows(reverse):
    logits = np.zeros((400, 300, 8), "float32")[:, :: -1 if reverse else 1][:, 1:]
    blocks = resize.resize_rows([logits], 400, (800, 500))
    assert peak_of(next, blocks) < logits.nbytes


def peak_of(function, *arguments):
    """The largest number of bytes that a call allocates."""
    tracemalloc.start()
    try:
        function(*arguments)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_half_precision_logits_are_averaged_in_float32():
    class Half(Blocks):
        def predict_on_batch(self, images):
            return super().predict_on_batch(images).astype("float16")

    logits = predict_logits(Half(), picture((70, 93)), WINDOWS)
    assert logits.dtype == np.float32
    expected = predict_logits(Blocks(), picture((70, 93)), WINDOWS)
    np.testing.assert_allclose(logits, expected, atol=5e-3)


def test_every_backends_model_is_tested_the_same_way():
    model, image = toy_segmenter(5), picture((70, 93))
    settings = dataclasses.replace(WINDOWS, scales=(0.75, 1.0), flip=True)

    class Plain:
        output_shape = model.output_shape

        def predict_on_batch(self, images):
            return keras.ops.convert_to_numpy(model(images, training=False))

    expected = predict_logits(Plain(), image, settings)
    logits = predict_logits(model, image, settings)
    np.testing.assert_allclose(logits, expected, atol=1e-4)


@pytest.mark.parametrize("shape", [(None, 7), None, [(None, 8, 8, 3)] * 4])
def test_model_that_is_no_segmenter_is_refused(shape):
    class Other:
        output_shape = shape

    with pytest.raises(ValueError, match="Expected a segmenter") as error:
        predict_labels(Other(), picture((40, 40)))
    assert str(shape) in str(error.value)
    assert "Other" in str(error.value)
