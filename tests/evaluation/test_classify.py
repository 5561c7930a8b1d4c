"""Top-1 and top-5 accuracy, and the crop they are measured on."""

import csv
import io
import json

import keras
import numpy as np
import pytest
from PIL import Image

from keras_lrseg.evaluation import evaluate_classifier
from keras_lrseg.evaluation.classify import centre_crop


class Pictures(list):
    """A list of (image, label) with class names."""

    classes = tuple("abcdefgh")


class Brightness:
    """Logits of eight classes that fall with the distance to the image's mean."""

    output_shape = (None, 8)

    def __init__(self):
        self.shapes = []

    def predict_on_batch(self, images):
        self.shapes.append(images.shape)
        mean = images.reshape(len(images), -1).mean(axis=1, keepdims=True)
        return -abs(mean / 32 - np.arange(8))


def flat(level, size=(40, 50)):
    return np.full((*size, 3), 32 * level, "uint8")


@pytest.fixture
def pictures():
    """Ranks 0, 0, 1, 3, 6 and 7."""
    pairs = [(0, 0), (7, 7), (2.25, 3), (0, 3), (6.25, 1), (7, 0)]
    return Pictures((flat(level), label) for level, label in pairs)


@pytest.mark.parametrize("batch_size", [1, 4, 6, 100])
def test_true_label_is_first_or_among_five(batch_size, pictures):
    model = Brightness()
    scores = evaluate_classifier(model, pictures, 32, batch_size)
    assert scores.ranks.tolist() == [0, 0, 1, 3, 6, 7]
    assert scores.top1 == pytest.approx(2 / 6)
    assert scores.top5 == pytest.approx(4 / 6)
    assert [s[0] for s in model.shapes] == {
        1: [1] * 6,
        4: [4, 2],
        6: [6],
        100: [6],
    }[batch_size]
    assert {s[1:] for s in model.shapes} == {(32, 32, 3)}


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_model_that_says_nothing_gets_no_credit(value):
    class Constant(Brightness):
        def predict_on_batch(self, images):
            return np.full((len(images), 8), value)

    pictures = Pictures((flat(1), label) for label in range(8))
    scores = evaluate_classifier(Constant(), pictures, 32)
    assert scores.top1 == (0 if np.isnan(value) else 1 / 8)
    assert scores.top5 == (0 if np.isnan(value) else 5 / 8)


@pytest.mark.parametrize(("size", "short"), [(224, 256), (384, 438), (32, 36)])
@pytest.mark.parametrize("shape", [(300, 400), (401, 300)])
def test_crop_is_the_middle_of_the_resized_image(size, short, shape):
    rng = np.random.default_rng(0)
    cells = rng.integers(0, 256, (9, 9, 3), "uint8")
    image = np.asarray(Image.fromarray(cells).resize(shape[::-1]))
    crop = centre_crop(image, size)
    assert crop.shape == (size, size, 3)
    height, width = (short * n // min(shape) for n in shape)
    resized = Image.fromarray(image).resize((width, height), Image.BICUBIC)
    left, top = round((width - size) / 2), round((height - size) / 2)
    expected = resized.crop((left, top, left + size, top + size))
    np.testing.assert_array_equal(crop, np.asarray(expected))


def test_a_keras_model_is_scored_and_progress_sees_every_image(pictures):
    images = keras.Input((None, None, 3))
    x = keras.layers.GlobalAveragePooling2D()(images)
    model = keras.Model(images, keras.layers.Dense(8)(x))
    kernel = np.zeros((3, 8))
    kernel[0, :2] = -1, 1  # the brighter, the more of class 1
    model.set_weights([kernel, np.array([9.0, 0, 8, 7, 6, 5, 4, 3])])
    seen = []

    def progress(indices):
        for i in indices:
            seen.append(i)
            yield i

    scores = evaluate_classifier(model, pictures, 224, 4, progress)
    assert scores.ranks.tolist() == [0, 6, 2, 2, 0, 7]
    assert seen == list(range(6))


def test_outputs_hold_the_accuracies(pictures):
    scores = evaluate_classifier(Brightness(), pictures, 32)
    assert str(scores) == "top-1 0.3333, top-5 0.6667 of 6 images"
    assert json.loads(scores.to_json()) == {
        "top1": 0.333333,
        "top5": 0.666667,
        "images": 6,
    }
    rows = list(csv.DictReader(io.StringIO(scores.to_csv())))
    assert [row["class"] for row in rows] == list(Pictures.classes)
    assert list(rows[0].values()) == ["a", "2", "0.5", "0.5"]
    assert list(rows[3].values()) == ["d", "2", "0.0", "1.0"]
    assert list(rows[2].values()) == ["c", "0", "", ""]


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"size": 31}, "size=31 32"), ({"batch_size": 0}, "batch_size=0")],
)
def test_impossible_settings_are_refused(settings, words, pictures):
    with pytest.raises(ValueError, match="Received") as error:
        evaluate_classifier(Brightness(), pictures, **settings)
    assert all(word in str(error.value) for word in words.split())


def test_wrong_models_and_data_are_refused(pictures):
    class Segmenter:
        output_shape = (None, None, None, 8)

    class Fewer:
        output_shape = (None, 3)

    with pytest.raises(ValueError, match=r"classifier.*Segmenter"):
        evaluate_classifier(Segmenter(), pictures)
    with pytest.raises(ValueError, match="3 classes and the data 8"):
        evaluate_classifier(Fewer(), pictures)
    with pytest.raises(ValueError, match="at least one image"):
        evaluate_classifier(Brightness(), Pictures())
    with pytest.raises(ValueError, match=r"below 8.* 8 for image 0"):
        evaluate_classifier(Brightness(), Pictures([(flat(0), 8)]))
