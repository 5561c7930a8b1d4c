import functools
import inspect
import re

import keras
import numpy as np
import pytest

import keras_lrseg
from keras_lrseg import LRFormerT, LRFormerTClassifier, SegNeXtT, models
from keras_lrseg.backbones.lrformer import VARIANTS
from keras_lrseg.layers import OffsetLearning
from keras_lrseg.models.lrformer import DECODER_CHANNELS
from tests.checks import check_trains_and_saves
from tests.helpers import fill, no_random_start, no_weights, refused
from tests.tiny import TINY

# Trainable weights in millions: the authors' segmenters with 150 classes, and the
# classifiers of the paper's Table 6.
SEGMENTERS = {"T": 13.265, "S": 32.224, "B": 67.505, "L": 110.980, "XL": 201.556}
CLASSIFIERS = {"T": 13.04, "S": 29.80, "B": 61.93, "L": 101.41, "XL": 186.99}


def make(function, *arguments, **settings):
    with no_weights():
        return getattr(keras_lrseg, function)(*arguments, **settings)


def parameters(model):
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


@pytest.mark.parametrize("variant", SEGMENTERS)
def test_segmenter_has_the_authors_number_of_parameters(variant):
    model = make(f"LRFormer{variant}", num_classes=150)
    assert parameters(model) / 1e6 == pytest.approx(SEGMENTERS[variant], rel=1e-3)
    assert model.name == f"lrformer_{variant.lower()}"


@pytest.mark.parametrize("variant", CLASSIFIERS)
def test_classifier_has_the_papers_number_of_parameters(variant):
    model = make(f"LRFormer{variant}Classifier")
    assert parameters(model) / 1e6 == pytest.approx(CLASSIFIERS[variant], rel=1e-3)
    assert model.backbone.get_config()["pool_size"] == 7


@pytest.mark.parametrize(
    ("variant", "rate"), [("T", 0.1), ("S", 0.2), ("B", 0.4), ("L", 0.6)]
)
def test_segmenter_trains_with_the_papers_drop_path(variant, rate):
    model = make(f"LRFormer{variant}", num_classes=150)
    assert model.backbone.get_config()["drop_path_rate"] == rate


def test_normalizations_have_the_authors_settings():
    """Too small a difference for the golden numbers: Keras's defaults are others."""
    layers = make("LRFormerXL", num_classes=150)._flatten_layers()
    batch = [x for x in layers if isinstance(x, keras.layers.BatchNormalization)]
    layer = [x for x in layers if isinstance(x, keras.layers.LayerNormalization)]
    assert {(norm.epsilon, norm.momentum) for norm in batch} == {(1e-5, 0.9)}
    epsilons = {("/attention/" in norm.gamma.path, norm.epsilon) for norm in layer}
    assert epsilons == {(True, 1e-5), (False, 1e-6)}


@pytest.mark.parametrize("name", [*models.SEGMENTERS, *models.CLASSIFIERS])
def test_every_setting_is_documented(name):
    function = getattr(keras_lrseg, name)
    assert function.__name__ == name
    assert "{" not in function.__doc__
    for setting in inspect.signature(function).parameters:
        assert re.search(rf"^    (\w+, )*{setting}[:,]", function.__doc__, re.MULTILINE)


@functools.cache
def parameters_of_t(**settings):
    return parameters(make("LRFormerT", 150, **settings))


DEPTHS, CHANNELS, RATIOS = (2, 2, 6, 3), (48, 96, 240, 384), (8, 8, 4, 4)


@pytest.mark.parametrize(
    ("settings", "fewer"),
    [
        # Each convolution left out has nine taps and a bias in every channel.
        (
            {"depthwise": False},
            sum(10 * d * c for d, c in zip(DEPTHS, CHANNELS, strict=True)),
        ),
        (
            {"feed_forward_depthwise": False},
            sum(
                10 * d * c * r for d, c, r in zip(DEPTHS, CHANNELS, RATIOS, strict=True)
            ),
        ),
        ({"pool_size": 32}, 0),
    ],
    ids=["depthwise", "feed-forward depthwise", "pool size"],
)
def test_ablation_has_that_many_parameters_fewer(settings, fewer):
    assert parameters_of_t() - parameters_of_t(**settings) == fewer


def test_settings_reach_their_parts():
    model = make(
        "LRFormerT",
        5,
        input_shape=(64, 96, 3),
        include_preprocessing=False,
        upsample=False,
        activation="softmax",
        dropout_rate=0.2,
        drop_path_rate=0.25,
        decoder_channels=128,
        pool_size=8,
        name="mine",
        dtype="mixed_bfloat16",
    )
    assert model.name == "mine"
    assert model.input_shape == (None, 64, 96, 3)
    assert model.output_shape == (None, 8, 12, 5)
    assert model.decoder.channels == 128
    backbone = model.backbone.get_config()
    assert (backbone["pool_size"], backbone["drop_path_rate"]) == (8, 0.25)
    assert model.dropout_rate == 0.2
    parts = (model.backbone, model.decoder, model.classifier)
    assert {part.dtype_policy.name for part in parts} == {"mixed_bfloat16"}
    assert model.output.dtype == "float32"


def test_layer_of_your_own_classifies():
    head = keras.layers.Conv2D(5, 3, padding="same")
    model = make("LRFormerT", 5, classifier=head)
    assert model.classifier is head
    assert model.output_shape == (None, None, None, 5)


def test_own_classifier_of_another_width_is_refused():
    with refused("num_classes=5"), no_weights():
        LRFormerT(5, classifier=keras.layers.Conv2D(6, 1))


@pytest.mark.parametrize("num_classes", [1, 0, "x"])
@pytest.mark.parametrize("model", [LRFormerT, LRFormerTClassifier])
def test_wrong_number_of_classes_is_refused(model, num_classes):
    with (
        refused("num_classes expects an integer", f"num_classes={num_classes!r}"),
        no_weights(),
    ):
        model(num_classes)


def test_segmenter_needs_a_number_of_classes():
    with pytest.raises(TypeError, match="num_classes"):
        LRFormerT()


def test_offset_learning_classifies(monkeypatch):
    monkeypatch.setitem(VARIANTS, "T", {**TINY, "depths": (1, 1, 1, 1)})
    monkeypatch.setitem(DECODER_CHANNELS, "T", 8)
    with no_random_start():
        model = LRFormerT(5, classifier="offset", dropout_rate=0.2)
    assert isinstance(model.classifier, OffsetLearning)
    assert model.dropout_rate == 0.2
    check_trains_and_saves(fill(model), 40, 56)


@pytest.mark.parametrize("model", [LRFormerT, SegNeXtT])
def test_decoder_without_channels_is_refused(model):
    with pytest.raises(ValueError, match=r"positive integer|multiples of 32"):
        model(5, decoder_channels=0)


def test_unknown_classifier_is_refused_with_the_valid_ones():
    with refused('"pixel"', '"offset"', "'mask'"), no_weights():
        LRFormerT(5, classifier="mask")


@pytest.mark.parametrize("shape", [(64, 64, 4), (64, 3), (20, 64, 3)])
def test_wrong_input_shape_is_refused_when_the_model_is_built(shape):
    with refused("input_shape", shape), no_weights():
        LRFormerT(5, input_shape=shape)


def test_models_are_made_by_name():
    with no_weights():
        model = models.make("LRFormerT", num_classes=5)
    assert (model.name, model.num_classes) == ("lrformer_t", 5)


def test_unknown_model_is_refused_with_the_known_ones():
    with refused("'LRFormerQ'", "LRFormerT", "LRFormerXLClassifier"):
        models.make("LRFormerQ", num_classes=5)
