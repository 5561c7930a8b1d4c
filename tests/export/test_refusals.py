"""Arguments, models and files that exporting refuses, and what it says."""

import sys

import keras
import numpy as np
import pytest

from keras_lrseg import SegFormerB0
from keras_lrseg.data import SegmentationDataset
from keras_lrseg.export import check, export_onnx, export_tflite
from tests.export.cases import WRITERS, classifier, in_this_process, picture
from tests.helpers import fill, no_weights, refused
from tests.training.toys import toy_dataset, toy_segmenter


def plain():
    images = keras.Input((64, 96, 3))
    return keras.Model(images, keras.layers.Conv2D(5, 1)(images))


def normalised():
    return toy_segmenter(include_preprocessing=False)


def many_classes():
    return toy_segmenter(257)


def fixed():
    return SegFormerB0(5, input_shape=(64, 64, 3))


def two_names():
    model = toy_segmenter()
    model.classes = ("sky", "sea")
    return model


def bright():
    return toy_segmenter(palette=[(0, 0, 0), (0, 0, 255), (0, 0, 256)])


@pytest.mark.parametrize(
    ("make", "changed", "message"),
    [
        (toy_segmenter, {"path": "model.onnx"}, r"must end in \.tflite.*model\.onnx"),
        (toy_segmenter, {"size": (31, 96)}, r"at least 32.*\(31, 96\).*\(32, 96\)"),
        (toy_segmenter, {"size": (64, 0)}, r"at least 32 pixels.*\(64, 0\)"),
        (toy_segmenter, {"size": (64, 96, 3)}, r"\(height, width\).*\(64, 96, 3\)"),
        (toy_segmenter, {"size": 64}, r"\(height, width\).*64"),
        (toy_segmenter, {"size": (64.5, 96)}, r"two whole numbers.*\(64\.5, 96\)"),
        (toy_segmenter, {"output": "masks"}, "'logits', 'labels'.*'masks'"),
        (toy_segmenter, {"input": "int8"}, "'uint8', 'float32'.*'int8'"),
        (toy_segmenter, {"precision": "int4"}, "'float32', 'float16'.*'int4'"),
        (toy_segmenter, {"precision": "int8"}, "calibration"),
        (plain, {}, "Only segmenters.*Functional"),
        (normalised, {}, "include_preprocessing=True"),
        (many_classes, {"output": "labels"}, "257 classes.*Export the logits"),
        (fixed, {}, "takes 64×64.*64×96.*--size 64 64"),
        (two_names, {}, "labels expects.*3 classes.*2"),
        (bright, {}, r"palette.*0\.\.255.*\(0, 0, 256\)"),
        (toy_segmenter, {"images": []}, "images expects at least one.*none"),
        (classifier, {"dataset": toy_dataset(1)}, "classifier gives no masks.*--masks"),
        (many_classes, {"dataset": toy_dataset(1)}, "257 classes.*data 3"),
    ],
)
def test_wrong_argument_is_refused_before_anything_is_written(
    make, changed, message, tmp_path
):
    with no_weights():
        model = make()
    arguments = {"path": "model.tflite", "size": (64, 96), "output": "logits"}
    arguments |= changed
    arguments["path"] = tmp_path / "new" / arguments["path"]
    with pytest.raises(ValueError, match=message):
        export_tflite(model, **arguments)
    assert list(tmp_path.iterdir()) == []


@in_this_process
@pytest.mark.parametrize("name", ["model.tflite", "model.onnx"])
def test_file_that_disagrees_is_refused_and_the_old_one_kept(
    name, toy, tmp_path, monkeypatch
):
    monkeypatch.setattr(check.Artifact, "run", lambda *a: -run_artifact(*a))
    (tmp_path / name).write_bytes(b"the old one")
    with pytest.raises(ValueError, match=r"disagrees with the model.*not kept"):
        WRITERS[name](toy, tmp_path / name, (64, 96))
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == b"the old one"


run_artifact = check.Artifact.run


@in_this_process
def test_labels_that_disagree_are_refused(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(check.Artifact, "run", lambda *a: 4 - run_artifact(*a))
    with pytest.raises(ValueError, match="disagrees with the model"):
        export_tflite(toy, tmp_path / "model.tflite", (64, 96), "labels")
    assert list(tmp_path.iterdir()) == []


@in_this_process
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_nan_is_refused_whatever_the_labels(precision, tmp_path, monkeypatch):
    """The argmax of NaN is 0, which agrees with a model that says 0 everywhere."""
    model = fill(toy_segmenter())
    model.classifier.bias.assign([1e3, 0, 0])
    monkeypatch.setattr(check.Artifact, "run", lambda *a: np.nan * run_artifact(*a))
    with pytest.raises(ValueError, match="disagrees with the model"):
        export_tflite(model, tmp_path / "model.tflite", (64, 96), precision=precision)
    assert list(tmp_path.iterdir()) == []


@in_this_process
@pytest.mark.parametrize("output", ["labels", "logits"])
def test_model_of_nan_is_blamed_itself(output, tmp_path):
    model = fill(toy_segmenter())
    model.classifier.bias.assign([np.nan, 0, 0])
    with refused("The model's logits are not finite"):
        export_tflite(model, tmp_path / "model.tflite", (64, 96), output)
    assert list(tmp_path.iterdir()) == []


@in_this_process
@pytest.mark.parametrize("output", ["labels", "confidence"])
@pytest.mark.filterwarnings("ignore:overflow")
def test_file_whose_values_are_too_large_for_float16_is_refused(output, tmp_path):
    layers = keras.layers.Conv2D(1024, 1), keras.layers.Conv2D(5, 1)
    model = fill(toy_segmenter(classifier=keras.Sequential(layers)))
    kernel = layers[0].kernel
    kernel.assign(1e6 * kernel)
    path = tmp_path / "model.tflite"
    with pytest.raises(ValueError, match=r"file.*[Ii]t was not kept"):
        export_tflite(model, path, (64, 96), output, precision="float16")
    assert list(tmp_path.iterdir()) == []


@in_this_process
@pytest.mark.parametrize("output", ["labels", "logits", "confidence"])
def test_output_without_deviation_agrees(output, tmp_path):
    model = fill(toy_segmenter(1))
    model.classifier.set_weights([0 * x for x in model.classifier.get_weights()])
    report = export_tflite(model, tmp_path / "model.tflite", (64, 96), output)
    assert report.deviation == (None if output == "labels" else 0)
    assert report.agreement == 1


@in_this_process
def test_masks_without_a_labelled_pixel_are_refused(tmp_path):
    images = [picture(64, 96)]
    masks = [np.full((64, 96), 255, "uint8")]
    dataset = SegmentationDataset.from_arrays(images, masks, ("a", "b", "c"))
    with refused("No pixel", "255", "--masks"):
        export_tflite(
            fill(toy_segmenter()), tmp_path / "m.tflite", (64, 96), dataset=dataset
        )
    assert list(tmp_path.iterdir()) == []


@in_this_process
def test_small_differences_count_even_where_the_labels_agree(
    toy, tmp_path, monkeypatch
):
    monkeypatch.setattr(check.Artifact, "run", lambda *a: 1.01 * run_artifact(*a))
    with pytest.raises(ValueError, match="largest difference"):
        export_tflite(toy, tmp_path / "model.tflite", (64, 96))
    assert list(tmp_path.iterdir()) == []


@in_this_process
@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("model.tflite", "ai_edge_litert"),
        ("model.onnx", "onnxruntime"),
        ("model.onnx", "onnx"),
    ],
)
def test_missing_library_is_named_with_the_command(name, module, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"{module}.*keras-lrseg\[export\]"):
        WRITERS[name](toy_segmenter(), tmp_path / name, (64, 96))
    assert list(tmp_path.iterdir()) == []


def test_onnx_of_a_small_size_is_refused_with_the_nearest(tmp_path):
    with refused("at least 64", "(48, 256)", "--size 64 256"):
        export_onnx(toy_segmenter(), tmp_path / "model.onnx", (48, 256))
