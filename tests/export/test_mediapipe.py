"""Exported files in MediaPipe Tasks, unmodified, as on Android, iOS and the web."""

import pathlib
import re
import sys
from ctypes.util import find_library

import keras
import numpy as np
import pytest
from keras import ops
from PIL import Image

from keras_lrseg.data import load_demo
from keras_lrseg.export import Artifact, add_metadata, export_tflite
from keras_lrseg.export.quantize import PRECISIONS
from tests.export import test_metadata as by_hand
from tests.tiny import filled, tiny_segmenter

mediapipe = pytest.importorskip("mediapipe")
if sys.platform == "linux" and not (find_library("EGL") and find_library("GLESv2")):
    pytest.skip("MediaPipe needs libEGL and libGLESv2", allow_module_level=True)

NAMES = ["water", "vegetated", "arid", "tundra", "ice"]
SIZE = (64, 96)
RGB, RGBA = mediapipe.ImageFormat.SRGB, mediapipe.ImageFormat.SRGBA
SLOW = pytest.mark.slow
GUIDE = pathlib.Path(__file__).parents[2] / "docs" / "mobile.md"
(PYTHON,) = re.findall(r"```python\n(.+?)```", GUIDE.read_text(), re.S)

in_this_process = pytest.mark.skipif(
    keras.config.backend() != "tensorflow",
    reason="the same file, written by TensorFlow in a process of its own",
)


def segmenter(path):
    """MediaPipe's client of a file, asked for all that it can give."""
    from mediapipe.tasks.python import BaseOptions, vision

    options = vision.ImageSegmenterOptions(
        BaseOptions(model_asset_path=str(path)),
        output_confidence_masks=True,
        output_category_mask=True,
    )
    return vision.ImageSegmenter.create_from_options(options)


def segment(client, image, kind=RGB):
    """The confidences (h, w, K) and the classes (h, w) of an image (h, w, channels)."""
    picture = mediapipe.Image(kind, np.ascontiguousarray(image))
    result = client.segment(picture)
    masks = [mask.numpy_view() for mask in result.confidence_masks]
    # The views are the result's memory, hence the copies.
    return np.concatenate(masks, -1), result.category_mask.numpy_view()[..., 0].copy()


def picture(height, width):
    image, _ = load_demo("train")[0]
    return np.ascontiguousarray(image[:height, :width])


def file_by_hand(folder, output):
    """A file that gives an image (4, 6, 3) times a constant as `output`."""
    about = {"name": "Product", "description": "", "output": output}
    path = folder / f"{output}.tflite"
    path.write_bytes(add_metadata(by_hand.product(), **about, labels=by_hand.NAMES))
    return path


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def exported(folder, model, precision="float32"):
    path = folder / f"{precision}.tflite"
    model.classes = NAMES
    images = [picture(*SIZE)]
    export_tflite(
        model,
        path,
        SIZE,
        "confidence",
        precision=precision,
        calibration=images if precision == "int8" else None,
        images=images,
    )
    return path


@pytest.fixture(scope="module")
def confidence_file(tmp_path_factory):
    model = filled(tiny_segmenter, num_classes=5, include_preprocessing=True)
    return exported(tmp_path_factory.mktemp("mediapipe"), model)


@in_this_process
def test_exported_file_gives_what_it_gives_in_litert(confidence_file):
    image = picture(*SIZE)
    with Artifact(confidence_file) as artifact:
        expected = artifact.run(image)
    with segmenter(confidence_file) as client:
        assert client.labels == NAMES
        confidence, classes = segment(client, image)
    assert confidence.shape == (*SIZE, 5)
    np.testing.assert_allclose(confidence, expected, atol=1e-6)
    np.testing.assert_array_equal(classes, confidence.argmax(-1))


@in_this_process
@pytest.mark.parametrize(
    "precision",
    [pytest.param(p, marks=[] if p == "int8" else SLOW) for p in PRECISIONS[1:]],
)
def test_smaller_file_gives_what_it_gives_in_litert(precision, tmp_path):
    keras.utils.set_random_seed(0)
    model = tiny_segmenter(num_classes=5, include_preprocessing=True)
    model.classifier.kernel.assign(100 * model.classifier.kernel)  # clear decisions
    image, path = picture(*SIZE), exported(tmp_path, model, precision)
    with Artifact(path) as artifact:
        expected = artifact.run(image)
    with segmenter(path) as client:
        confidence, classes = segment(client, image)
    assert expected.std() > 0.01
    # Where all is rounded to 8 bits, another runtime may round the other way.
    tolerance = 0.02 if precision == "int8" else 1e-5
    np.testing.assert_allclose(confidence, expected, atol=tolerance)
    np.testing.assert_array_equal(classes, confidence.argmax(-1))


@in_this_process
def test_picture_of_another_size_gets_masks_of_its_size(confidence_file):
    """MediaPipe takes every second pixel, without smoothing, and enlarges the masks."""
    image = picture(2 * SIZE[0], 2 * SIZE[1])
    with Artifact(confidence_file) as artifact:
        expected = artifact.run(image[::2, ::2])
    with segmenter(confidence_file) as client:
        confidence, classes = segment(client, image)
    size = image.shape[:2]
    expected = ops.image.resize(expected[None], size, interpolation="bilinear")[0]
    np.testing.assert_allclose(confidence, ops.convert_to_numpy(expected), atol=1e-5)
    assert classes.shape == size


def test_softmax_of_logits_is_taken_by_the_client(tmp_path):
    image = np.random.default_rng(2).integers(0, 256, (4, 6, 3), "uint8")
    logits = image * by_hand.WEIGHTS[0]
    with segmenter(file_by_hand(tmp_path, "logits")) as client:
        assert client.labels == by_hand.NAMES
        confidence, classes = segment(client, image)
    np.testing.assert_allclose(confidence, softmax(logits), atol=1e-6)
    np.testing.assert_array_equal(classes, logits.argmax(-1))


def test_alpha_is_dropped(tmp_path):
    rgba = np.random.default_rng(3).integers(0, 256, (4, 6, 4), "uint8")
    with segmenter(file_by_hand(tmp_path, "confidence")) as client:
        expected, _ = segment(client, rgba[..., :3])
        result, _ = segment(client, rgba, RGBA)
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "LA"])
def test_example_of_the_guide_takes_any_picture(mode, tmp_path, monkeypatch):
    """MediaPipe refuses a grey picture, and after it every other one."""
    monkeypatch.chdir(tmp_path)
    file_by_hand(tmp_path, "logits").rename("street_confidence.tflite")
    image = Image.fromarray(np.full((4, 6), 100, "uint8")).convert(mode)
    image.save("street.jpg", "PNG")  # which can be all of them
    example = {}
    exec(PYTHON, example)
    expected = softmax(100 * by_hand.WEIGHTS[0])
    np.testing.assert_allclose(example["confidence"], expected, atol=1e-6)
    np.testing.assert_array_equal(example["labels"], expected.argmax(-1))
    assert example["names"] == by_hand.NAMES


def test_label_map_is_refused_instead_of_misread(tmp_path):
    content = by_hand.map_file("uint8", (1, 4, 6))
    about = {"name": "Labels", "description": "", "output": "labels"}
    path = tmp_path / "labels.tflite"
    path.write_bytes(add_metadata(content, **about, labels=NAMES))
    with pytest.raises(RuntimeError, match="Invalid activation"):
        segmenter(path)


def test_classifier_names_its_classes(tmp_path):
    from mediapipe.tasks.python import BaseOptions, vision

    path = tmp_path / "classifier.tflite"
    about = {"name": "Mean colour", "description": "", "output": "confidence"}
    content = by_hand.mean_colour()
    path.write_bytes(add_metadata(content, **about, labels=["red", "green", "blue"]))
    options = vision.ImageClassifierOptions(BaseOptions(model_asset_path=str(path)))
    image = np.full((4, 6, 3), (0, 200, 100), "uint8")
    with vision.ImageClassifier.create_from_options(options) as client:
        result = client.classify(mediapipe.Image(RGB, image))
    (head,) = result.classifications
    scores = [(x.category_name, x.score) for x in head.categories]
    assert scores == [("green", 200), ("blue", 100), ("red", 0)]
