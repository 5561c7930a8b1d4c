import sys

import keras
import numpy as np
import pytest

from keras_lrseg import ImageClassifier, SemanticSegmenter
from keras_lrseg.data import load_demo
from keras_lrseg.export import export_tflite, run_tflite, tflite
from keras_lrseg.layers import ConvolutionNorm, PointwiseConvolution
from tests.helpers import fill, filled, no_weights, run, tiny_backbone, tiny_segmenter
from tests.training.toys import toy_segmenter

# On the others the work is done in a process of its own, which no test can meddle with.
in_this_process = pytest.mark.skipif(
    keras.config.backend() != "tensorflow", reason="only TensorFlow converts by itself"
)


def picture(height, width):
    image, _ = load_demo("train")[0]
    return np.ascontiguousarray(image[:height, :width])


def logits_of(model, image):
    at_stride = keras.Model(model.input, model.logits)
    return run(at_stride, image[None].astype("float32"))[0]


@pytest.fixture(scope="module")
def model():
    return filled(tiny_segmenter, num_classes=5, include_preprocessing=True)


def test_file_gives_the_models_logits(model, tmp_path):
    path, image = tmp_path / "new" / "model.tflite", picture(64, 96)
    report = export_tflite(model, path, (64, 96))
    assert "on 4 images 100.00% of the labels are the model's" in report
    assert [p.name for p in path.parent.iterdir()] == ["model.tflite"]
    expected, result = logits_of(model, image), run_tflite(path, image)
    assert result.dtype == np.float32
    assert result.shape == expected.shape == (8, 12, 5)
    assert abs(result - expected).max() < 1e-3 * expected.std()


def test_model_of_half_precision_gives_the_file_of_a_float32_one(tmp_path):
    half, single = (fill(small(dtype)) for dtype in ("mixed_bfloat16", "float32"))
    path, image = tmp_path / "model.tflite", picture(64, 64)
    report = export_tflite(half, path, (64, 64), images=[image])
    assert "100.00% of the labels" in report
    expected, result = logits_of(single, image), run_tflite(path, image)
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
    rebuilt = tflite._in_float32(model)
    dtypes = {(x.variable_dtype, x.compute_dtype) for x in layers_of(rebuilt)}
    assert dtypes == {("float32", "float32")}
    assert policy in {layer.dtype_policy.name for layer in layers_of(model)}
    for a, b in zip(model.weights, rebuilt.weights, strict=True):
        assert a.path == b.path
        np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (a, b)))


def layers_of(model):
    return [x for x in model._flatten_layers() if x.weights]


def test_model_of_float32_is_not_rebuilt(model):
    assert tflite._in_float32(model) is model


@pytest.fixture(scope="module")
def labels_file(tmp_path_factory):
    """A small model, its file of labels for an odd size, and what was measured."""
    model = fill(toy_segmenter(5))
    path = tmp_path_factory.mktemp("export") / "labels.tflite"
    images = [picture(45, 70), picture(45, 70)[::-1]]
    return model, path, export_tflite(model, path, (45, 70), "labels", images)


def test_file_gives_the_models_labels_for_an_odd_size(labels_file):
    model, path, _ = labels_file
    image = picture(45, 70)
    labels = run_tflite(path, image)
    assert labels.dtype == np.uint8
    assert labels.shape == (12, 18)
    assert len(np.unique(labels)) > 1
    expected = logits_of(model, image).argmax(-1)
    assert (labels == expected).mean() > 0.99


def test_file_is_compared_on_the_images_given(labels_file):
    assert "on 2 images" in labels_file[2]


@pytest.mark.parametrize("size", [(70, 45), (45, 69), (32, 70)])
def test_file_refuses_images_of_another_size(size, labels_file):
    with pytest.raises(ValueError, match=r"takes images of \(45, 70, 3\)") as error:
        run_tflite(labels_file[1], picture(*size))
    assert str((*size, 3)) in str(error.value)


def test_file_that_is_no_model_cannot_be_run(tmp_path):
    path = tmp_path / "model.tflite"
    with pytest.raises(ValueError, match="Could not open"):
        run_tflite(path, picture(64, 96))
    path.write_bytes(b"no model")
    with pytest.raises(ValueError, match="not a valid Flatbuffer"):
        run_tflite(path, picture(64, 96))


def classifier():
    return ImageClassifier(tiny_backbone(), 5, head=keras.layers.Identity())


def plain():
    images = keras.Input((64, 96, 3))
    return keras.Model(images, keras.layers.Conv2D(5, 1)(images))


def normalised():
    return toy_segmenter(include_preprocessing=False)


@pytest.mark.parametrize(
    ("make", "changed", "message"),
    [
        (toy_segmenter, {"path": "model.onnx"}, r"must end in \.tflite.*model\.onnx"),
        (toy_segmenter, {"size": (31, 96)}, r"at least 32 pixels.*\(31, 96\)"),
        (toy_segmenter, {"size": (64, 0)}, r"at least 32 pixels.*\(64, 0\)"),
        (toy_segmenter, {"size": (64, 96, 3)}, r"\(height, width\).*\(64, 96, 3\)"),
        (toy_segmenter, {"output": "masks"}, "'logits', 'labels'.*'masks'"),
        (classifier, {}, "Only segmenters.*ImageClassifier"),
        (plain, {}, "Only segmenters.*Functional"),
        (normalised, {}, "include_preprocessing=True"),
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


def test_target_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises((OSError, ValueError), match="file"):
        export_tflite(toy_segmenter(), tmp_path / "file" / "m.tflite", (64, 96))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@in_this_process
@pytest.mark.parametrize("output", ["logits", "labels"])
def test_file_that_disagrees_is_refused_and_the_old_one_kept(
    output, tmp_path, monkeypatch
):
    def convert(model, *arguments):
        content = tflite_convert(model, *arguments)
        model.classifier.set_weights([-w for w in model.classifier.get_weights()])
        return content

    tflite_convert = tflite._convert
    monkeypatch.setattr(tflite, "_convert", convert)
    path = tmp_path / "model.tflite"
    path.write_bytes(b"the old one")
    with pytest.raises(ValueError, match=r"disagrees with the model.*not kept"):
        export_tflite(fill(toy_segmenter()), path, (64, 96), output)
    assert [p.name for p in tmp_path.iterdir()] == ["model.tflite"]
    assert path.read_bytes() == b"the old one"


@in_this_process
def test_file_that_computes_nan_is_refused_whatever_the_labels(tmp_path, monkeypatch):
    """The argmax of NaN is 0, which agrees with a model that says 0 everywhere."""
    model = fill(toy_segmenter())
    model.classifier.bias.assign([1e3, 0, 0])
    result = tflite._run

    def run_to_nan(*arguments):
        return np.nan * result(*arguments)

    monkeypatch.setattr(tflite, "_run", run_to_nan)
    with pytest.raises(ValueError, match="disagrees with the model"):
        export_tflite(model, tmp_path / "model.tflite", (64, 96))
    assert list(tmp_path.iterdir()) == []


@in_this_process
def test_small_differences_count_even_where_the_labels_agree(tmp_path, monkeypatch):
    model = fill(toy_segmenter())
    result = tflite._run
    monkeypatch.setattr(tflite, "_run", lambda *a: 1.01 * result(*a))
    with pytest.raises(ValueError, match="largest difference"):
        export_tflite(model, tmp_path / "model.tflite", (64, 96))
    assert list(tmp_path.iterdir()) == []


@in_this_process
def test_missing_runtime_is_named_with_the_command(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    with pytest.raises(ImportError, match=r"ai_edge_litert.*keras-lrseg\[export\]"):
        export_tflite(toy_segmenter(), tmp_path / "model.tflite", (64, 96))
    assert list(tmp_path.iterdir()) == []
