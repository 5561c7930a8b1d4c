import keras
import numpy as np
import pytest

from keras_lrseg import ImageClassifier
from keras_lrseg.layers import PointwiseConvolution
from tests.helpers import assert_same_model, no_weights, run, saved_and_loaded
from tests.tiny import filled, tiny_backbone


def tiny_classifier(**settings):
    backbone = tiny_backbone(pool_size=7, dtype=settings.get("dtype"))
    head = PointwiseConvolution(
        32, activation="gelu", name="head", dtype=backbone.dtype_policy
    )
    return ImageClassifier(backbone, 10, head, **settings)


def pictures():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (2, 33, 47, 3)).astype("uint8")


def test_softmax_gives_a_probability_of_each_class():
    model = filled(tiny_classifier, activation="softmax")
    probabilities = run(model, pictures())
    assert probabilities.shape == (2, 10)
    np.testing.assert_allclose(probabilities.sum(-1), 1, rtol=1e-5)


def test_file_makes_the_same_classifier_again():
    settings = {"activation": "softmax", "include_preprocessing": False, "name": "mine"}
    model = filled(tiny_classifier, **settings)
    again = saved_and_loaded(model)
    assert_same_model(again, model)
    config = again.get_config()
    assert {key: config[key] for key in settings} == settings


def test_file_keeps_a_frozen_classifier_frozen():
    model = filled(tiny_classifier)
    model.classifier.trainable = False
    again = saved_and_loaded(model)
    assert len(again.trainable_variables) == len(model.trainable_variables)


def test_half_precision_gives_float32_logits():
    with no_weights():
        model = tiny_classifier(dtype="mixed_bfloat16")
    assert model.classifier.compute_dtype == "bfloat16"
    assert model.output.dtype == "float32"


@pytest.mark.parametrize("num_classes", [1, 0, "x", None])
def test_wrong_number_of_classes_is_refused(num_classes):
    with no_weights():
        backbone = tiny_backbone()
    with pytest.raises(ValueError, match="num_classes expects an integer from 2"):
        ImageClassifier(backbone, num_classes, head=keras.layers.Identity())
