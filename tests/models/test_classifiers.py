import keras
import pytest

from keras_lrseg.models.classifiers import make_classifier
from tests.helpers import refused


def test_pixel_classifier_starts_near_zero():
    classifier = make_classifier("pixel", 50)
    classifier.build((None, None, None, 256))
    kernel, bias = classifier.get_weights()
    assert kernel.std() == pytest.approx(0.01, rel=0.05)
    assert bias.tolist() == [0] * 50


def test_layer_of_your_own_is_taken_as_it_is():
    layer = keras.layers.Conv2D(5, 3, padding="same")
    assert make_classifier(layer, 5) is layer


@pytest.mark.parametrize("num_classes", [1, 0, -3, 256, "x", 2.0, None, True])
def test_num_classes_must_be_an_integer_from_2_to_255(num_classes):
    with refused("num_classes expects an integer from 2 to 255", repr(num_classes)):
        make_classifier("pixel", num_classes)


def test_unknown_name_is_refused_with_the_valid_one():
    with refused('"pixel"', "'pixels'"):
        make_classifier("pixels", 5)
