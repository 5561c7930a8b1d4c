import sys
from collections import Counter

import keras
import numpy as np
import pytest

from keras_lrseg.data import load_demo
from keras_lrseg.export import flatbuffer
from keras_lrseg.export.convert import convert
from keras_lrseg.export.interface import Interface
from keras_lrseg.export.quantize import PRECISIONS, quantize
from tests.helpers import fill, refused
from tests.tiny import tiny_segmenter

converts = pytest.mark.skipif(
    keras.config.backend() != "tensorflow",
    reason="TFLite files are made by TensorFlow, whatever the backend",
)
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:ai_edge")

SIZE = (32, 48)
CLASSES = 5
# Of the file's size, and of the labels that are the float file's. The labels of 96
# pixels of a random network: trained ones are above 0.99.
LARGEST = {"float16": 0.53, "weight_int8": 0.30, "dynamic_int8": 0.30, "int8": 0.30}
AGREEMENT = {"float16": 0.99, "weight_int8": 0.97, "dynamic_int8": 0.97, "int8": 0.95}


def tiles(count=4, size=SIZE):
    images = (load_demo("train")[i][0] for i in range(count))
    return [np.ascontiguousarray(x[: size[0], : size[1]]) for x in images]


def run(content, image):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    (taken,), (given,) = (
        interpreter.get_input_details(),
        interpreter.get_output_details(),
    )
    interpreter.set_tensor(taken["index"], image[None].astype(taken["dtype"]))
    interpreter.invoke()
    return interpreter.get_tensor(given["index"])


def converted(function, dtype="uint8", size=SIZE):
    """The TFLite file of a function from float images (1, H, W, 3) to one tensor."""
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((1, *size, 3), dtype)])
    def infer(image):
        return function(tf.cast(image, tf.float32) / 255 - 0.5)

    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [infer.get_concrete_function()]
    )
    return converter.convert()


def numbers(*shape, seed=0, scale=1.0):
    values = np.random.default_rng(seed).standard_normal(shape)
    return (scale * values).astype("float32")


def network(x):
    """What our models are made of: logits (1, 8, 12, 5) of an image.

    A convolution, a depthwise one, attention with a bias of every pair, a norm, a
    feed-forward, and the pixels' mean by a softmax over all of them.
    """
    import tensorflow as tf

    x = tf.nn.conv2d(x, numbers(7, 7, 3, 64, scale=0.2), 4, "SAME")
    x += tf.nn.depthwise_conv2d(
        x, numbers(3, 3, 64, 1, seed=1, scale=0.3), (1, 1, 1, 1), "SAME"
    )
    tokens = tf.reshape(x, (1, 96, 64))
    weights = tf.matmul(tokens, tokens, transpose_b=True) / 64
    weights = tf.nn.softmax(weights + numbers(1, 96, 96, seed=2))
    tokens += tf.matmul(weights, tokens)
    mean = tf.reduce_mean(tokens, -1, keepdims=True)
    deviation = tf.math.squared_difference(tokens, mean)
    deviation = tf.reduce_mean(deviation, -1, keepdims=True)
    tokens = (tokens - mean) * tf.math.rsqrt(deviation + 1e-5)
    hidden = tf.nn.gelu(tf.matmul(tokens[0], numbers(64, 256, seed=3, scale=0.1)))
    tokens += tf.matmul(hidden, numbers(256, 64, seed=4, scale=0.1))
    return tf.reshape(
        tf.matmul(tokens[0], numbers(64, CLASSES, seed=5)), (1, 8, 12, CLASSES)
    )


@pytest.fixture(scope="module")
def content():
    return converted(network)


def int8(function):
    return quantize(converted(function), "int8", tiles())


def kinds(content):
    """How many operators of each kind take numbers of each type."""
    model = flatbuffer.read(content)
    (graph,) = model.subgraphs
    types = {0: "float32", 1: "float16", 2: "int32", 3: "uint8", 9: "int8"}
    return Counter(
        (kind, types[graph.tensors[operator.inputs[0]].type])
        for operator, kind in flatbuffer.operators(model)
    )


@converts
@pytest.mark.parametrize("precision", PRECISIONS[1:])
def test_file_is_smaller_and_says_the_same(content, precision):
    small = quantize(content, precision, tiles())
    assert type(small) is bytes
    assert len(small) < LARGEST[precision] * len(content)
    same = []
    for image in tiles():
        expected, got = run(content, image), run(small, image)
        assert (got.shape, got.dtype) == (expected.shape, np.float32)
        same.append(np.mean(got.argmax(-1) == expected.argmax(-1)))
    assert np.mean(same) >= AGREEMENT[precision]


@converts
@pytest.mark.parametrize("precision", PRECISIONS)
def test_input_of_floats_and_output_of_labels_stay(precision):
    import tensorflow as tf

    def labels(x):
        return tf.cast(tf.argmax(network(x), -1, output_type=tf.int32), tf.uint8)

    content = converted(labels, "float32")
    small, (image, *_) = quantize(content, precision, tiles()), tiles()
    expected, got = run(content, image), run(small, image)
    assert (got.shape, got.dtype) == ((1, 8, 12), np.uint8)
    assert np.mean(got == expected) >= AGREEMENT.get(precision, 1)


@converts
def test_lrformer_is_quantised_and_runs(tmp_path):
    model = fill(tiny_segmenter(num_classes=CLASSES, include_preprocessing=True))
    path, images = tmp_path / "model.tflite", tiles(size=(64, 64))
    convert(model, path, "tflite", Interface((64, 64)))
    content = path.read_bytes()
    expected = run(content, images[0])
    for precision in PRECISIONS[1:]:
        got = run(quantize(content, precision, images), images[0])
        assert got.shape == expected.shape
        assert abs(got - expected).max() < 0.25 * expected.std()


@converts
def test_float32_is_the_file_itself(content):
    assert quantize(content, "float32") is content


@converts
def test_8_bit_arithmetic_is_where_it_should_be(content):
    dynamic = kinds(quantize(content, "dynamic_int8"))
    assert {kind for kind, dtype in dynamic if dtype == "int8"} == {"DEQUANTIZE"}
    static = kinds(quantize(content, "int8", tiles()))
    assert {kind for kind, dtype in static if dtype == "float32"} == {"QUANTIZE"}
    assert static["DEQUANTIZE", "int8"] == 1


@converts
@pytest.mark.parametrize(("positions", "dtype"), [(192, "int8"), (384, "float32")])
def test_softmax_over_many_positions_stays_in_floating_point(positions, dtype):
    import tensorflow as tf

    def mean(x):
        return tf.matmul(tf.nn.softmax(tf.reshape(x, (-1, positions))), values)

    values = numbers(positions, 8)
    assert kinds(int8(mean))["SOFTMAX", dtype] == 1


@converts
def test_probabilities_come_without_steps():
    import tensorflow as tf

    def confidence(x):
        return tf.nn.softmax(tf.nn.conv2d(x, numbers(1, 1, 3, 5), 1, "SAME"))

    assert kinds(int8(confidence))["SOFTMAX", "float32"] == 1


@converts
def test_division_and_its_epsilon_stay_in_floating_point():
    """An epsilon that rounds to zero would stop LiteRT's 8-bit division."""

    def ratio(x):
        return x / (abs(x[:, ::-1]) + 1e-3)

    file = int8(ratio)
    assert kinds(file)["DIV", "float32"] == kinds(file)["ADD", "float32"] == 1
    assert np.isfinite(run(file, tiles()[0])).all()


@converts
def test_integer_arithmetic_is_left_alone():
    import tensorflow as tf

    def read(x):
        rows = tf.cast(4 * (x[0, :, 0, 0] + 0.5), tf.int32)
        return tf.gather(numbers(64, 8), rows + 2 * rows)

    content = converted(read)
    small = quantize(content, "int8", tiles())
    assert kinds(small)["ADD", "int32"] == 1
    expected, got = (run(file, tiles()[0]) for file in (content, small))
    assert abs(got - expected).max() < 0.02


@converts
@pytest.mark.parametrize("precision", ["weight_int8", "dynamic_int8"])
def test_weights_have_a_scale_for_each_channel(precision):
    import tensorflow as tf

    def project(x):
        x = tf.matmul(tf.reshape(x, (-1, 96)), weights)
        return x[:, :48] + 100 * x[:, 48:]  # as large as each other

    weights = numbers(96, 96) * np.repeat([1, 0.01], 48).astype("float32")
    content = converted(project)
    small, image = quantize(content, precision, tiles()), tiles()[0]
    expected, got = run(content, image), run(small, image)
    assert abs(got - expected).max() < 0.1 * expected.std()


@converts
def test_pooling_by_a_constant_on_the_left_has_one_scale():
    """LiteRT reads one scale there; the rows here are a factor of 100 apart."""
    import tensorflow as tf

    def pool(x):
        rows = np.linspace(0.01, 1, 8, dtype="float32")[:, None] * abs(numbers(8, 32))
        return tf.matmul(rows, tf.reshape(x, (1, 32, -1)))

    content = converted(pool)
    small, image = quantize(content, "int8", tiles()), tiles()[0]
    assert kinds(small)["BATCH_MATMUL", "int8"] == 1
    expected, got = run(content, image), run(small, image)
    assert abs(got - expected).max() < 0.02 * abs(expected).max()


@converts
@pytest.mark.parametrize("precision", PRECISIONS[1:])
def test_weights_that_are_added_as_well(precision):
    """Offset Learning's class representations are read by two kinds of operators."""
    import tensorflow as tf

    def offset(x):
        weights = tf.constant(numbers(96, 96))
        x = tf.matmul(tf.reshape(x, (-1, 96)), weights, transpose_b=True)
        return x + tf.reduce_sum(weights + x[:1], axis=0)

    content = converted(offset)
    small, image = quantize(content, precision, tiles()), tiles()[0]
    expected, got = run(content, image), run(small, image)
    assert abs(got - expected).max() < 0.05 * abs(expected).max()


@converts
@pytest.mark.parametrize(("precision", "bytes_"), [("float16", 2), ("weight_int8", 1)])
def test_large_biases_shrink_too(precision, bytes_):
    biases = numbers(32, 48, 3 * 10)

    def add(x):
        import tensorflow as tf

        return tf.tile(x, (1, 1, 1, 10)) + biases

    content = converted(add)
    small, image = quantize(content, precision), tiles()[0]
    assert len(content) - len(small) > 0.9 * (4 - bytes_) * biases.size
    expected, got = run(content, image), run(small, image)
    assert abs(got - expected).max() < 0.01 * abs(biases).max()


# --- Bad input, which no file is read for -------------------------------------------


def test_unknown_precision_lists_the_valid_ones():
    with refused("'int4'", *PRECISIONS):
        quantize(b"", "int4")


@pytest.mark.parametrize("calibration", [None, [], iter(())])
def test_int8_without_images_says_what_to_give(calibration):
    with refused("int8", "calibration", "uint8 (H, W, 3)"):
        quantize(b"", "int8", calibration)


@converts
def test_image_of_another_size_is_named(content):
    with refused((32, 48, 3), (48, 32, 3)):
        quantize(content, "int8", tiles(size=(48, 32)))


@pytest.mark.parametrize("precision", PRECISIONS[1:])
def test_missing_library_is_named_with_the_command(precision, monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_quantizer", None)
    with refused("ai_edge_quantizer", "keras-lrseg[export]", error=ImportError):
        quantize(b"", precision, tiles(1))
