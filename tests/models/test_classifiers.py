import keras
import pytest

from keras_lrseg.layers import OffsetLearning
from keras_lrseg.models.classifiers import make_classifier
from tests.helpers import refused


def test_pixel_classifier_starts_near_zero():
    classifier = make_classifier("pixel", 50)
    classifier.build((None, None, None, 256))
    kernel, bias = classifier.get_weights()
    assert kernel.std() == pytest.approx(0.01, rel=0.05)
    assert bias.tolist() == [0] * 50


def test_offset_classifier_learns_offsets_of_classes_and_features():
    classifier = make_classifier("offset", 50, dtype="mixed_bfloat16")
    assert isinstance(classifier, OffsetLearning)
    assert classifier.dtype_policy.name == "mixed_bfloat16"
    classifier.build((None, None, None, 64))
    assert classifier.name == "classifier"
    shapes = [weight.shape for weight in classifier.weights]
    assert shapes == [(50, 64), (64, 64), (64, 64), (50,), (50,)]


def test_layer_of_your_own_is_taken_as_it_is():
    layer = keras.layers.Conv2D(5, 3, padding="same")
    assert make_classifier(layer, 5) is layer


@pytest.mark.parametrize("num_classes", [1, 0, -3, 256, "x", 2.0, None, True])
def test_num_classes_must_be_an_integer_from_2_to_255(num_classes):
    with refused("num_classes expects an integer from 2 to 255", repr(num_classes)):
        make_classifier("pixel", num_classes)


def test_unknown_name_is_refused_with_the_valid_ones():
    with refused('"pixel"', '"offset"', "'pixels'"):
        make_classifier("pixels", 5)
