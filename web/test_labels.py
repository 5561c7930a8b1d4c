"""The page of `keras-lrseg demo-web`: its labels are those of Python."""

import numpy as np
import pytest
from browser import (
    DEMO,
    SIZE,
    assert_labels_of_python,
    canvas,
    confidences_of_python,
    drop,
    exported,
    label,
    labels_shown,
    open_page,
    png,
    serving,
)
from PIL import Image
from playwright.sync_api import expect

from keras_lrseg.export.quantize import PRECISIONS


@pytest.mark.parametrize("index", [0, 3, 12])
def test_labels_are_those_of_python(index, page, model):
    image, _ = DEMO[index]
    labels = label(page, Image.fromarray(image))
    assert labels.shape == SIZE
    assert len(np.unique(labels)) > 2
    np.testing.assert_array_equal(canvas(page, "picture"), image)
    assert_labels_of_python(labels, model, image)


@pytest.mark.parametrize("size", [(240, 512), (600, 500), (100, 180)])
def test_labels_of_another_size_are_those_of_mediapipe_in_python(size, page, model):
    tiles = np.concatenate([DEMO[i][0] for i in (3, 4)], 1)  # 256×512
    image = np.asarray(Image.fromarray(tiles).resize(size[::-1]))
    labels = label(page, Image.fromarray(image))
    assert labels.shape == size
    agreement = (labels == labels_of_mediapipe(model, image)).mean()
    print(f"{agreement:.4%} of {labels.size} labels are equal")
    assert agreement > 0.9999


@pytest.mark.parametrize("precision", PRECISIONS[1:])
def test_labels_of_a_smaller_file_are_those_of_python(precision, browser, tmp_path):
    image = np.ascontiguousarray(DEMO[3][0][:64, :96])
    path = exported(tmp_path, (64, 96), precision)
    with serving(path) as address:
        page = browser.new_page()
        open_page(page, address)
        labels = label(page, Image.fromarray(image))
        page.close()
    confidences = confidences_of_python(path, image)
    second, first = np.moveaxis(np.sort(confidences, -1)[..., -2:], -1, 0)
    margin, differ = first - second, labels != confidences.argmax(-1)
    worst = margin[differ].max(initial=0) / np.median(margin)
    print(f"{precision}: {differ.mean():.4%} differ, by {worst:.3f} margins or less")
    # 8-bit arithmetic rounds the other way here and there: only where classes are near.
    assert worst < (0.1 if precision in ("dynamic_int8", "int8") else 1e-3)


def labels_of_mediapipe(model, image):
    """What MediaPipe's own client in Python gives, whatever the picture's size."""
    import mediapipe
    from mediapipe.tasks.python import BaseOptions, vision

    options = vision.ImageSegmenterOptions(
        BaseOptions(model_asset_path=str(model)),
        output_category_mask=True,
        output_confidence_masks=False,
    )
    with vision.ImageSegmenter.create_from_options(options) as segmenter:
        picture = mediapipe.Image(mediapipe.ImageFormat.SRGB, image)
        result = segmenter.segment(picture)
        return result.category_mask.numpy_view()[..., 0].copy()  # from its memory


def test_large_picture_is_made_smaller(page):
    labels = label(page, Image.fromarray(DEMO[5][0]).resize((3000, 1500)))
    assert labels.shape == (512, 1024)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "1"])
def test_picture_that_is_not_rgb_is_taken_as_rgb(mode, page, model):
    picture = Image.fromarray(DEMO[7][0]).convert("LA" if mode == "LA" else mode)
    rgb = np.asarray(picture.convert("RGB"))
    labels = label(page, picture)
    np.testing.assert_array_equal(canvas(page, "picture"), rgb)
    assert_labels_of_python(labels, model, rgb)


def test_transparent_picture_is_laid_on_white(page, model):
    image = DEMO[7][0].copy()
    opaque = np.full(SIZE, 255, np.uint8)
    opaque[:, :100] = 0
    picture = Image.fromarray(np.dstack([image, opaque]))
    image[:, :100] = 255
    labels = label(page, picture)
    np.testing.assert_array_equal(canvas(page, "picture"), image)
    assert_labels_of_python(labels, model, image)


def test_samples_are_labelled(page):
    samples = page.get_by_role("button", name="Sample")
    assert samples.count() >= 4
    before = canvas(page, "picture")
    page.evaluate("document.getElementById('overlay').hidden = true")
    samples.nth(2).click()
    expect(page.locator("#overlay")).to_be_visible()
    assert not np.array_equal(before, canvas(page, "picture"))


def test_dropped_picture_is_labelled(page, model):
    image, _ = DEMO[9]
    page.evaluate("document.getElementById('overlay').hidden = true")
    drop(page, "tile.png", png(Image.fromarray(image)))
    expect(page.locator("#overlay")).to_be_visible()
    assert_labels_of_python(labels_shown(page), model, image)
