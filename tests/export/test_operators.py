import keras
import pytest

from keras_lrseg.export import read_operators
from tests.export.graphs import tflite_of

tf = pytest.importorskip("tensorflow")
pytestmark = pytest.mark.skipif(
    keras.config.backend() != "tensorflow", reason="no model of Keras in it"
)

SHAPE = (1, 8, 8, 4)


def read(function, tmp_path, shape=SHAPE, **settings):
    path = tmp_path / "model.tflite"
    path.write_bytes(tflite_of(function, shape))
    return read_operators(path, **settings)


def test_operators_are_counted(tmp_path):
    operators = read(lambda x: tf.nn.softmax(tf.exp(tf.nn.softmax(x))), tmp_path)
    assert operators.counts == {"SOFTMAX": 2, "EXP": 1}
    assert str(operators).endswith("2 SOFTMAX, 1 EXP")


def test_operators_that_xnnpack_leaves_split_its_parts(tmp_path):
    def function(x):
        x = tf.nn.softmax(x) * 2.0
        x = tf.gather(x, [3, 1, 1], axis=3)  # not one of XNNPACK's
        return tf.nn.softmax(x)

    operators = read(function, tmp_path)
    assert sum(operators.counts.values()) == 4
    assert (operators.delegated, operators.parts) == (3, 2)


def masked(x):
    return tf.bitwise.bitwise_and(tf.cast(x, "int32"), 3)


def folded(x):
    return tf.transpose(tf.reshape(x, (1, 2, 4, 8, 4)), (0, 2, 1, 3, 4))


@pytest.mark.parametrize(
    ("function", "shape", "words"),
    [
        (masked, SHAPE, "not built in: FlexBitwiseAnd"),
        (folded, SHAPE, r"more than 4 axes: .*\(1, 2, 4, 8, 4\)"),
        (tf.nn.softmax, (None, 4), r"unknown size: .*\(-1, 4\)"),
    ],
)
def test_file_for_few_phones_is_refused_unless_allowed(
    function, shape, words, tmp_path
):
    with pytest.raises(ValueError, match=rf"{words}.*--allow-any-operator"):
        read(function, tmp_path, shape)
    operators = read(function, tmp_path, shape, allow_any=True)
    assert sum(operators.counts.values()) > 0
