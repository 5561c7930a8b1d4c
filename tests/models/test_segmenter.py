import functools

import keras
import numpy as np
import pytest

from keras_lrseg import SegFormerB0, SemanticSegmenter
from keras_lrseg.models.image_model import IMAGENET_MEAN, IMAGENET_STD
from tests.checks import run_dynamic
from tests.helpers import (
    as_json,
    assert_same_model,
    images,
    no_weights,
    run,
    saved_and_loaded,
    tensorflow_only,
    tensors,
)
from tests.reference import golden_segmenter, shared_golden_segmenter
from tests.tiny import filled, tiny_segmenter

SIZE = (33, 47)


def pictures(height, width, dtype="uint8"):
    """RGB 0..255 as a file holds them."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (2, height, width, 3)).astype(dtype)


def convolutions():
    """A backbone as others make it: one output, and `pyramid_outputs`."""
    x = keras.Input((None, None, 3))
    pyramid = {
        level: keras.layers.Conv2D(8, 3, stride, "same")(x)
        for level, stride in {"P2": 4, "P3": 8, "P4": 16, "P5": 32}.items()
    }
    backbone = keras.Model(x, pyramid["P5"])
    backbone.pyramid_outputs = pyramid
    return backbone


@functools.cache
def parts():
    return filled(lambda: tiny_segmenter(backbone=convolutions()))


@functools.cache
def composed(**settings):
    """The same three parts in another composition; compiled sooner than LRFormer."""
    model = parts()
    return SemanticSegmenter(
        model.backbone, model.decoder, model.classifier, **settings
    )


@pytest.mark.parametrize("size", [(32, 32), SIZE, (97, 130)])
def test_logits_have_the_size_of_the_images(size):
    logits = run(shared_golden_segmenter(), images(0, *size))
    assert logits.shape == (1, *size, 7)
    assert logits.dtype == "float32"


@tensorflow_only
def test_graph_of_unknown_size_gives_the_same_logits():
    x = images(0, *SIZE)
    model = shared_golden_segmenter()
    logits, expected = run_dynamic(model, x), run(model, x)
    assert abs(logits - expected).max() <= 1e-4 * expected.std()


def test_any_model_with_pyramid_outputs_is_a_backbone():
    assert parts().backbone.pyramid_outputs.keys() == {"P2", "P3", "P4", "P5"}
    assert run(composed(), pictures(*SIZE)).shape == (2, *SIZE, 7)


def test_float_images_give_the_logits_of_uint8_ones():
    uint8, as_float = (
        run(composed(), pictures(*SIZE, t)) for t in ("uint8", "float32")
    )
    np.testing.assert_array_equal(as_float, uint8)


def test_preprocessing_normalises_with_imagenets_statistics():
    x = pictures(*SIZE)
    normalised = ((x - np.array(IMAGENET_MEAN)) / IMAGENET_STD).astype("float32")
    expected = run(composed(include_preprocessing=False), normalised)
    assert abs(run(composed(), x) - expected).max() <= 1e-4 * expected.std()


def test_without_upsampling_logits_have_stride_8_and_resize_to_the_same():
    x = images(0, *SIZE, batch=2)
    low = run(composed(include_preprocessing=False, upsample=False), x)
    assert low.shape == (2, 5, 6, 7)
    model = composed(include_preprocessing=False)
    enlarged = run(model.get_layer("resize"), [low, x])
    np.testing.assert_allclose(enlarged, run(model, x), rtol=1e-4, atol=1e-5)


def test_softmax_makes_probabilities_of_the_logits():
    x = images(0, *SIZE, batch=2)
    logits = run(composed(include_preprocessing=False), x)
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    expected = powers / powers.sum(-1, keepdims=True)
    model = composed(include_preprocessing=False, activation="softmax")
    np.testing.assert_allclose(run(model, x), expected, atol=1e-4)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_gives_float32_logits_about_the_same(policy):
    x = images(0, *SIZE)
    model = golden_segmenter(policy)
    assert model.decoder.compute_dtype == policy[6:]
    logits, expected = run(model, x), run(shared_golden_segmenter(), x)
    assert logits.dtype == "float32"
    assert abs(logits - expected).max() <= 0.1 * expected.std()


def test_dropout_drops_whole_channels_in_training_only():
    dropout = composed(dropout_rate=0.25).get_layer("dropout")
    features = tensors(np.ones((2, 3, 5, 8), "float32"))
    dropped = keras.ops.convert_to_numpy(dropout(features, training=True))
    assert (dropped == dropped[:, :1, :1]).all()
    assert np.unique(dropped) == pytest.approx([0, 1 / 0.75])


def test_backbone_without_a_pyramid_is_refused():
    x = keras.Input((None, None, 3))
    with pytest.raises(ValueError, match="pyramid_outputs"):
        tiny_segmenter(backbone=keras.Model(x, keras.layers.Conv2D(8, 3)(x)))


@pytest.mark.parametrize("backbone", [None, keras.Sequential([keras.Input((8,))])])
def test_what_is_no_backbone_is_refused(backbone):
    with pytest.raises(ValueError, match="pyramid_outputs"):
        SemanticSegmenter(backbone, parts().decoder, parts().classifier)


def test_backbone_that_lacks_a_level_is_refused_with_the_levels():
    x = keras.Input((None, None, 3))
    pyramid = {"P3": keras.layers.Conv2D(8, 3, 8)(x), "P4": x}
    with pytest.raises(ValueError, match=r"\['P3', 'P4', 'P5'\].*\['P3', 'P4'\]"):
        tiny_segmenter(backbone=keras.Model(x, pyramid))


def test_file_makes_the_same_segmenter_again():
    settings = {
        "include_preprocessing": True,
        "upsample": False,
        "activation": "softmax",
        "dropout_rate": 0.3,
        "classes": ("water", "land", *"abcde"),
        "palette": [[i, 2 * i, 3 * i] for i in range(7)],
    }
    model = filled(tiny_segmenter, **settings)
    again = saved_and_loaded(model)
    assert_same_model(again, model)
    config = as_json(again.get_config())
    assert {key: config[key] for key in settings} == as_json(settings)


def test_function_as_activation_is_kept_by_its_name():
    model = filled(tiny_segmenter, activation=keras.activations.softmax)
    assert saved_and_loaded(model).activation == model.activation == "softmax"


def test_file_keeps_frozen_parts_frozen():
    model = filled(tiny_segmenter)
    model.backbone.trainable = model.classifier.trainable = False
    again = saved_and_loaded(model)
    names = [v.path for v in model.trainable_variables]
    assert [v.path for v in again.trainable_variables] == names
    assert names
    assert all(name.startswith("decoder/") for name in names)


def test_file_keeps_frozen_layers_of_the_backbone_frozen():
    model = filled(tiny_segmenter)
    model.backbone.get_layer("stem").trainable = False
    again = saved_and_loaded(model)
    names = [v.path for v in model.trainable_variables]
    assert len(names) < len(model.weights)
    assert [v.path for v in again.trainable_variables] == names


def test_quantised_model_that_could_not_be_loaded_is_not_made():
    with pytest.raises(ValueError, match="export_tflite"):
        composed().quantize("int8")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classes": ("a", "b")}, r"classes expects 7 names.*\('a', 'b'\)"),
        ({"classes": "letters"}, "classes expects 7 names"),
        ({"palette": [[0, 0, 0]]}, r"shape \(7, 3\).*\(1, 3\)"),
    ],
)
def test_names_and_colours_are_one_for_each_class(settings, message):
    with no_weights(), pytest.raises(ValueError, match=message):
        tiny_segmenter(**settings)


def test_inputs_may_be_named_or_listed():
    model, x = composed(), pictures(*SIZE)
    expected = model.predict_on_batch(x)
    for inputs in ({"images": x}, [x]):
        np.testing.assert_array_equal(model.predict_on_batch(inputs), expected)


def test_channels_first_as_default_changes_nothing():
    x = keras.ops.ones((2, 3, 5, 8))
    keras.config.set_image_data_format("channels_first")
    try:
        dropout = filled(tiny_segmenter, dropout_rate=0.5).get_layer("dropout")
    finally:
        keras.config.set_image_data_format("channels_last")
    dropped = keras.ops.convert_to_numpy(dropout(x, training=True))
    assert (dropped == dropped[:, :1, :1]).all()


def test_numbers_of_classes_may_be_numpys():
    with no_weights():
        model = SegFormerB0(np.int64(3), classifier="offset")
    assert model.num_classes == 3
    as_json(model.get_config())


def test_array_as_palette_survives_the_configuration():
    palette = np.arange(21, dtype="uint8").reshape(7, 3)
    with no_weights():
        model = tiny_segmenter(palette=palette)
    assert model.get_config()["palette"] == palette.tolist()


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((64, 64, 3), r"[Ee]xpected shape.*None, None, None, 3"),
        ((1, 64, 64, 4), r"expected shape=\(None, None, None, 3\)"),
        ((1, 64, 64, 1), r"expected shape=\(None, None, None, 3\)"),
        ((1, 31, 64, 3), r"at least 32×32 pixels\. Received: 31×64"),
    ],
    ids=["no batch", "four channels", "one channel", "too small"],
)
def test_image_of_another_shape_is_refused_with_the_expected_one(shape, message):
    with no_weights():
        model = tiny_segmenter(include_preprocessing=True)
    with pytest.raises(ValueError, match=message):
        model(np.zeros(shape, "float32"))
