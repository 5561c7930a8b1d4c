import os
import pathlib
import sys

import keras
import numpy as np
import pytest

from keras_lrseg import ImageClassifier, SegFormerB0, SemanticSegmenter, export
from keras_lrseg.data import SegmentationDataset, load_demo
from keras_lrseg.export import check, export_onnx, export_saved_model, export_tflite
from keras_lrseg.export import export as module
from keras_lrseg.export.half_precision import in_float32
from keras_lrseg.layers import ConvolutionNorm, OffsetLearning, PointwiseConvolution
from keras_lrseg.models.variants import make_mask_segmenter
from tests.helpers import fill, no_weights, refused, run
from tests.tiny import filled, small_mask_decoders, tiny_backbone, tiny_segmenter
from tests.training.toys import toy_dataset, toy_segmenter

# The others leave the conversion to a process of TensorFlow: a few tests show that.
in_this_process = pytest.mark.skipif(
    keras.config.backend() != "tensorflow", reason="TensorFlow converts the same model"
)


def picture(height, width):
    image, _ = load_demo("train")[0]
    return np.ascontiguousarray(image[:height, :width])


def run_file(path, image):
    with export.Artifact(path) as artifact:
        return artifact.run(image)


def logits_of(model, image):
    at_stride = keras.Model(model.input, model.logits)
    return run(at_stride, image[None].astype("float32"))[0]


@pytest.fixture(scope="module")
def model():
    return filled(tiny_segmenter, num_classes=5, include_preprocessing=True)


def test_tflite_file_gives_the_models_logits(model, tmp_path):
    path, image = tmp_path / "new" / "model.tflite", picture(64, 96)
    report = export_tflite(model, path, (64, 96))
    assert (report.path, report.images, report.agreement) == (path, 4, 1.0)
    assert report.deviation < 1e-3
    assert report.milliseconds > 0
    assert 1 < report.peak_mib < 2000
    assert report.size_mib == path.stat().st_size / 2**20
    assert [p.name for p in path.parent.iterdir()] == ["model.tflite"]
    expected, result = logits_of(model, image), run_file(path, image)
    assert result.dtype == np.float32
    assert result.shape == expected.shape == (8, 12, 5)
    assert abs(result - expected).max() < 1e-3 * expected.std()


@in_this_process
def test_report_of_a_tflite_file_lists_its_operators(model, tmp_path):
    report = export_tflite(model, tmp_path / "model.tflite", (64, 96))
    operators = report.operators
    assert operators.counts["SOFTMAX"] == 7  # an attention each
    assert operators.parts == 1
    assert operators.delegated == sum(operators.counts.values()) - 1  # but the cast
    for words in ("100.00% of the labels", "ms an image", "7 SOFTMAX", "in 1 part:"):
        assert words in str(report)


WRITERS = {
    "model.tflite": export_tflite,
    "model.onnx": export_onnx,
    "model": export_saved_model,
}


@pytest.fixture(scope="module")
def toy():
    return fill(toy_segmenter(5))


@pytest.mark.parametrize("name", WRITERS)
def test_file_gives_labels_for_an_odd_size(name, toy, tmp_path):
    image = picture(69, 70)
    report = WRITERS[name](toy, tmp_path / name, (69, 70), "labels", images=[image])
    assert (report.images, report.deviation) == (1, None)
    labels = run_file(tmp_path / name, image)
    assert (labels.dtype, labels.shape) == (np.uint8, (18, 18))
    assert len(np.unique(labels)) > 1
    assert (labels == logits_of(toy, image).argmax(-1)).mean() > 0.99
    assert [path.name for path in tmp_path.iterdir()] == [name]


@in_this_process
@pytest.mark.parametrize("name", WRITERS)
def test_file_gives_the_softmax_at_the_images_size(name, toy, tmp_path):
    image = picture(64, 96)
    WRITERS[name](toy, tmp_path / name, (64, 96), "confidence")
    result = run_file(tmp_path / name, image)
    assert (result.dtype, result.shape) == (np.float32, (64, 96, 5))
    logits = run(toy, image[None].astype("float32"))[0]  # enlarged by the model
    expected = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(result, expected, atol=1e-4)


@in_this_process
def test_size_of_the_output_can_be_chosen(toy, tmp_path):
    path, image = tmp_path / "model.tflite", picture(64, 96)
    export_tflite(toy, path, (64, 96), "labels", full_size=True)
    logits = run(toy, image[None].astype("float32"))[0]
    assert (run_file(path, image) == logits.argmax(-1)).mean() > 0.99
    export_tflite(toy, path, (64, 96), "confidence", full_size=False)
    assert run_file(path, image).shape == (16, 24, 5)


@in_this_process
def test_file_takes_numbers_instead_of_bytes(toy, tmp_path):
    path, image = tmp_path / "model.tflite", picture(64, 96)
    export_tflite(toy, path, (64, 96), input="float32")
    halved = image / np.float32(2)
    expected = logits_of(toy, halved)
    assert abs(run_file(path, halved) - expected).max() < 1e-3 * expected.std()


@in_this_process
def test_saved_model_takes_several_images(toy, tmp_path):
    tf = pytest.importorskip("tensorflow")
    export_saved_model(toy, tmp_path / "model", (64, 96))
    serve = tf.saved_model.load(str(tmp_path / "model")).signatures["serving_default"]
    images = np.stack([picture(64, 96), picture(64, 96)[::-1]])
    logits = serve(image=tf.constant(images))["logits"].numpy()
    for image, result in zip(images, logits, strict=True):
        expected = logits_of(toy, image)
        assert abs(result - expected).max() < 1e-3 * expected.std()


@in_this_process
def test_onnx_file_names_its_input_and_output(toy, tmp_path):
    onnx = pytest.importorskip("onnx")
    export_onnx(toy, tmp_path / "model.onnx", (64, 96))
    graph = onnx.load(tmp_path / "model.onnx").graph
    assert [x.name for x in graph.input] == ["image"]
    assert [x.name for x in graph.output] == ["logits"]


def classifier(classes=None):
    head = ConvolutionNorm(8, activation="relu")
    return ImageClassifier(tiny_backbone(), 5, head=head, classes=classes)


@in_this_process
@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("model.tflite", "labels"),
        ("model.tflite", "confidence"),
        ("model.onnx", "labels"),
        ("model", "confidence"),
    ],
)
def test_image_classifier_is_exported(name, output, tmp_path):
    model, image = fill(classifier()), picture(64, 96)
    logits = run(model, image[None].astype("float32"))[0]
    softmax = np.exp(logits) / np.exp(logits).sum()
    WRITERS[name](model, tmp_path / name, (64, 96), output)
    expected = logits.argmax() if output == "labels" else softmax
    np.testing.assert_allclose(run_file(tmp_path / name, image), expected, atol=1e-4)


@pytest.fixture(scope="module")
def masks():
    x = keras.Input((None, None, 3))
    strides = {"P2": 4, "P3": 8, "P4": 16, "P5": 32}
    pyramid = {k: keras.layers.Conv2D(8, 3, n, "same")(x) for k, n in strides.items()}
    with small_mask_decoders():
        return make_mask_segmenter(keras.Model(x, pyramid), 5, num_queries=4)


@in_this_process
@pytest.mark.parametrize(
    "name",
    ["model.onnx", "model.tflite", pytest.param("model", marks=pytest.mark.slow)],
)
def test_segmenter_of_masks_is_exported(name, masks, tmp_path):
    path, image = tmp_path / name, picture(64, 96)
    report = WRITERS[name](masks, path, (64, 96), full_size=True, images=[image])
    expected = run(masks, image[None].astype("float32"))[0]  # enlarged by the model
    assert abs(run_file(path, image) - expected).max() < 1e-3 * expected.std()
    if name == "model.tflite":
        assert not report.operators.foreign


@in_this_process
def test_model_and_file_are_scored_on_labelled_images(tmp_path):
    model, dataset = fill(toy_segmenter()), toy_dataset(3)
    path = tmp_path / "model.tflite"
    report = export_tflite(model, path, (64, 96), "labels", dataset=dataset)
    assert report.model_scores.miou > 0
    assert report.file_scores.confusion.sum() == report.model_scores.confusion.sum()
    assert report.file_scores.miou == pytest.approx(report.model_scores.miou, abs=1e-2)
    assert f"mIoU {report.file_scores.miou:.4f}, of the model" in str(report)


@in_this_process
def test_file_carries_classes_and_patent_notice(tmp_path):
    model = fill(toy_segmenter(classifier=OffsetLearning(3)))
    model.classes = ("sky", "sea", "snow")
    export_tflite(model, tmp_path / "model.tflite", (64, 96))
    content = (tmp_path / "model.tflite").read_bytes()
    assert b"sky\nsea\nsnow" in content
    assert b"non-commercial" in content


@pytest.mark.parametrize("name", WRITERS)
def test_numpy_is_as_good_as_lists(name, toy, tmp_path):
    toy.classes = np.array(["a", "b", "c", "d", "e"])
    images, size = np.stack([picture(64, 96)] * 2), np.array([64, 96])
    try:
        report = WRITERS[name](toy, tmp_path / name, size, images=images)
        assert report.images == 2
    finally:
        toy.classes = None


@in_this_process
@pytest.mark.parametrize("kind", [np.array, iter])
def test_calibration_is_any_iterable(kind, toy, tmp_path):
    path, calibration = tmp_path / "model.tflite", kind([picture(64, 96)] * 5)
    report = export_tflite(
        toy, path, (64, 96), precision="int8", calibration=calibration
    )
    assert report.images == 4  # and the comparison is on some of them


@in_this_process
def test_classes_that_are_numbers_become_names(tmp_path):
    model = fill(toy_segmenter(classes=(7, 8, 9)))
    export_tflite(model, tmp_path / "model.tflite", (64, 96))
    assert b"7\n8\n9\n" in (tmp_path / "model.tflite").read_bytes()


# === Half precision ===


@in_this_process
def test_model_of_half_precision_gives_the_file_of_a_float32_one(tmp_path):
    half, single = (fill(small(dtype)) for dtype in ("mixed_bfloat16", "float32"))
    path, image = tmp_path / "model.tflite", picture(64, 64)
    assert export_tflite(half, path, (64, 64), images=[image]).agreement == 1.0
    expected, result = logits_of(single, image), run_file(path, image)
    assert abs(result - expected).max() < 1e-3 * expected.std()
    assert abs(logits_of(half, image) - expected).max() > 1e-3 * expected.std()


def small(dtype):
    images = keras.Input((None, None, 3))
    backbone = keras.Model(
        images, {"P3": ConvolutionNorm(8, 3, 4, dtype=dtype)(images)}
    )
    features = keras.Input((None, None, 8), name="P3")
    x = PointwiseConvolution(8, activation="relu", dtype=dtype)(features)
    decoder = keras.Model({"P3": features}, x)
    return SemanticSegmenter(backbone, decoder, PointwiseConvolution(5, dtype=dtype))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "bfloat16"])
def test_every_layer_of_a_rebuilt_model_is_float32(policy):
    model = filled(tiny_segmenter, dtype=policy)
    rebuilt = in_float32(model)
    dtypes = {(x.variable_dtype, x.compute_dtype) for x in layers_of(rebuilt)}
    assert dtypes == {("float32", "float32")}
    assert policy in {layer.dtype_policy.name for layer in layers_of(model)}
    for a, b in zip(model.weights, rebuilt.weights, strict=True):
        assert a.path == b.path
        np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (a, b)))


def layers_of(model):
    return [x for x in model._flatten_layers() if x.weights]


def test_model_of_float32_is_not_rebuilt(model):
    assert in_float32(model) is model


# === Refusals ===


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
    return toy_segmenter(classes=("sky", "sea"))


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


@pytest.mark.parametrize("name", WRITERS)
def test_target_under_a_file_is_refused(name, tmp_path):
    (tmp_path / "file").write_text("in the way")
    path = tmp_path / "file" / "new" / name
    words = tmp_path / "file", "is a file", "expected a folder", name
    with refused(*words, error=NotADirectoryError):
        WRITERS[name](None, path, (64, 96))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("name", WRITERS)
def test_target_in_a_folder_without_permission_is_refused(name, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    words = tmp_path, "no permission", name
    with refused(*words, error=PermissionError):
        WRITERS[name](None, tmp_path / "new" / name, (64, 96))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["model.tflite", "model.onnx"])
def test_saved_model_has_no_suffix_of_a_file(name, tmp_path):
    with refused("SavedModel", name, f"--to {name[6:]}"):
        export_saved_model(None, tmp_path / name, (64, 96))


def test_error_names_the_file_and_not_the_hidden_one(tmp_path, monkeypatch):
    def full(model, path, *_):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(module, "convert", full)
    path = tmp_path / "model.onnx"
    with pytest.raises(OSError, match=f"No space left on device: '{path}'"):
        export_onnx(toy_segmenter(), path, (64, 96))


def test_folder_of_the_user_is_never_replaced(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("dear")
    with pytest.raises(FileExistsError, match=r"mine.*not a SavedModel.*new folder"):
        export_saved_model(toy_segmenter(), tmp_path / "mine", (64, 96))
    (tmp_path / "mine" / "saved_model.pb").touch()
    with pytest.raises(FileExistsError, match=r"mine.*not a SavedModel.*new folder"):
        export_saved_model(toy_segmenter(), tmp_path / "mine", (64, 96))
    assert (tmp_path / "mine" / "notes.txt").read_text() == "dear"


@pytest.fixture
def quick(monkeypatch):
    """SavedModels are text files in a folder, which nobody runs."""

    def write(model, path, *_):
        path.mkdir()
        (path / "saved_model.pb").write_text("new")

    monkeypatch.setattr(module, "convert", write)
    monkeypatch.setattr(module, "check", lambda model, path, *_: module.Report(path, 0))


@pytest.fixture
def old(tmp_path):
    """What is in the file of a SavedModel that was there before."""
    (tmp_path / "model" / "variables").mkdir(parents=True)
    (tmp_path / "model" / "saved_model.pb").write_text("old")
    return tmp_path / "model" / "saved_model.pb"


def test_saved_model_takes_the_place_of_an_earlier_one(quick, old, tmp_path):
    export_saved_model(toy_segmenter(), tmp_path / "model", (64, 96))
    assert old.read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert [path.name for path in old.parent.iterdir()] == ["saved_model.pb"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_earlier_saved_model_survives_a_failing_rename(
    error, quick, old, tmp_path, monkeypatch
):
    def fail(*_):
        assert not old.exists()  # it is out of the way
        raise error

    monkeypatch.setattr(pathlib.Path, "replace", fail)
    with pytest.raises(error):
        export_saved_model(toy_segmenter(), tmp_path / "model", (64, 96))
    assert old.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


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
