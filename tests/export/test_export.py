"""What exported files give, beside the models that they were made of."""

import keras
import numpy as np
import pytest

from keras_lrseg import SemanticSegmenter
from keras_lrseg.export import export_onnx, export_saved_model, export_tflite
from keras_lrseg.export.half_precision import in_float32
from keras_lrseg.layers import ConvolutionNorm, OffsetLearning, PointwiseConvolution
from keras_lrseg.models.variants import make_mask_segmenter
from tests.export.cases import (
    WRITERS,
    classifier,
    in_this_process,
    logits_of,
    picture,
    run_file,
)
from tests.helpers import fill, run
from tests.tiny import filled, small_mask_decoders, tiny_segmenter
from tests.training.toys import toy_dataset, toy_segmenter


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
    # P5 is seven pixels wide: the largest index is 6, as in ReLU6.
    path, image = tmp_path / name, picture(64, 224)
    report = WRITERS[name](masks, path, (64, 224), full_size=True, images=[image])
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
