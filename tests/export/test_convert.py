import keras
import numpy as np
import pytest

from keras_lrseg.backbones import MSCANBackbone
from keras_lrseg.export import convert
from keras_lrseg.export.interface import Interface
from keras_lrseg.export.operators import read_operators
from keras_lrseg.layers import MSCABlock
from tests.export.graphs import tflite_of
from tests.helpers import run
from tests.tiny import filled, tiny_segmenter
from tests.training.toys import toy_segmenter

pytestmark = pytest.mark.skipif(
    keras.config.backend() != "tensorflow", reason="the others leave it to TensorFlow"
)


@pytest.mark.parametrize(("size", "target"), [(43, 16), (13, 11), (8, 8), (16, 128)])
def test_onnx_resizes_to_the_very_size(size, target):
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    factors = np.array([1, 1, target / size, 1], "float32")
    resize = onnx.helper.make_node(
        "Resize", ["x", "", "factors"], ["y"], name="resize", mode="linear"
    )
    exp = onnx.helper.make_node("Exp", ["x0"], ["x"])
    tensor = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [exp, resize],
        "resizing",
        [tensor("x0", onnx.TensorProto.FLOAT, [1, 2, size, 5])],
        [tensor("y", onnx.TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(factors, "factors")],
    )
    opset = [onnx.helper.make_opsetid("", convert.OPSET)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=10)
    convert._resize_to_sizes(model)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    x = np.zeros((1, 2, size, 5), "float32")
    (y,) = session.run(None, {"x0": x})
    assert y.shape == (1, 2, target, 5)


def tiny_segnext(**settings):
    settings["backbone"] = MSCANBackbone(channels=(8, 8, 8, 8), depths=(1, 1, 1, 1))
    return tiny_segmenter(**settings)


@pytest.mark.parametrize("make", [tiny_segmenter, tiny_segnext, toy_segmenter])
def test_model_for_inference_divides_no_image_and_gives_the_same(make):
    model = filled(make, num_classes=5, include_preprocessing=True)
    prepare, rest = convert.for_inference(model, Interface((64, 96)))
    x = np.random.default_rng(0).uniform(0, 255, (1, 64, 96, 3)).astype("float32")
    at_stride = keras.Model(model.input, model.logits)
    expected = run(at_stride, x)
    result = run(lambda x: rest(prepare(x)), x)
    assert abs(result - expected).max() < 1e-4 * expected.std()
    ours = make is not toy_segmenter  # whose backbone may begin with anything
    change = prepare(x + 1) - prepare(x)
    assert np.allclose(change, 1, atol=1e-4) == ours


def test_blocks_of_segnext_are_exported_without_norms(tmp_path):
    shape = (1, 16, 24, 8)
    block = MSCABlock()
    block.build(shape)
    path = tmp_path / "block.tflite"
    path.write_bytes(tflite_of(block.infer, shape))
    counts = read_operators(path).counts
    # Products with the attention and of the residual; three strips, two residuals.
    assert (counts["MUL"], counts["ADD"]) == (2, 5)
