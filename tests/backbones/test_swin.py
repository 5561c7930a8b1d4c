import keras
import numpy as np
import pytest

from keras_lrseg.backbones import SwinBackbone
from keras_lrseg.backbones.swin import VARIANTS
from tests.checks import run_dynamic
from tests.helpers import (
    assert_same_model,
    images,
    no_weights,
    run,
    saved_and_loaded,
    tensorflow_only,
)
from tests.tiny import filled

TINY = {
    "channels": (8, 8, 8, 8),
    "depths": (1, 2, 1, 1),
    "num_heads": (2, 2, 2, 2),
    "window_size": 3,
}


@pytest.mark.parametrize(
    ("variant", "millions"),
    [("T", 27.521), ("S", 48.839), ("B", 86.880), ("L", 195.201)],
)
def test_variants_have_the_published_number_of_weights(variant, millions):
    with no_weights():
        backbone = SwinBackbone(**VARIANTS[variant])
    assert backbone.count_params() / 1e6 == pytest.approx(millions, abs=5e-4)


def test_every_second_block_shifts_and_drop_path_rises_linearly():
    with no_weights():
        backbone = SwinBackbone(**VARIANTS["T"])
    blocks = [layer for layer in backbone.layers if "_block" in layer.name]
    assert [block.attention.shift for block in blocks] == [0, 3] * 6
    rates = [block.drop_path.rate for block in blocks]
    np.testing.assert_allclose(rates, np.linspace(0, 0.3, 12))


def test_pyramid_has_strides_4_to_32_for_any_size():
    sizes = {"P2": (25, 33), "P3": (13, 17), "P4": (7, 9), "P5": (4, 5)}
    settings = {**TINY, "channels": (4, 8, 12, 16)}
    with no_weights():
        known = SwinBackbone(input_shape=(97, 130, 3), **settings).pyramid_outputs
    backbone = filled(SwinBackbone, **settings)
    pyramid = run(backbone, images(0, 97, 130))
    for (level, size), width in zip(sizes.items(), settings["channels"], strict=True):
        symbolic = backbone.pyramid_outputs[level]
        assert symbolic.shape == (None, None, None, width)
        assert known[level].shape == (None, *size, width)
        assert pyramid[level].shape == (1, *size, width)
        layer = backbone.get_layer(backbone.pyramid_level_inputs[level])
        assert layer.output is symbolic


def test_smallest_images_give_the_smallest_pyramid():
    backbone = filled(SwinBackbone, **TINY)
    pyramid = run(backbone, images(0, 32, 32))
    assert [x.shape[1:3] for x in pyramid.values()] == [(n, n) for n in (8, 4, 2, 1)]
    assert all(np.isfinite(x).all() for x in pyramid.values())


@tensorflow_only
@pytest.mark.parametrize("size", [(32, 96), (65, 97)])
def test_pyramid_is_the_same_in_a_graph_of_unknown_size(size):
    backbone = filled(SwinBackbone, **TINY)
    x = images(0, *size, batch=2)
    dynamic, expected = run_dynamic(backbone, x), run(backbone, x)
    for level, y in expected.items():
        np.testing.assert_allclose(dynamic[level], y, rtol=1e-4, atol=1e-5)


def test_file_makes_the_same_backbone_again():
    settings = {
        "window_size": 2,
        "expansion_ratio": 2,
        "drop_path_rate": 0.5,
        "epsilon": 1e-6,
        "input_shape": (64, None, 3),
        "name": "other_name",
    }
    backbone = filled(SwinBackbone, **{**TINY, **settings})
    again = saved_and_loaded(backbone)
    assert_same_model(again, backbone)
    config = again.get_config()
    assert {key: config[key] for key in settings} == settings


def test_epsilon_is_that_of_every_layer_normalization():
    with no_weights():
        backbone = SwinBackbone(**TINY, epsilon=1e-6)
    norms = [
        layer
        for layer in backbone._flatten_layers()
        if isinstance(layer, keras.layers.LayerNormalization)
    ]
    assert len(norms) == 1 + 2 * 5 + 3 + 4
    assert {norm.epsilon for norm in norms} == {1e-6}


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_is_that_of_every_level(policy):
    with no_weights():
        backbone = SwinBackbone(**TINY, dtype=policy)
    assert {x.dtype for x in backbone.pyramid_outputs.values()} == {policy[6:]}
    weights = [w for w in backbone.weights if "seed_generator" not in w.path]
    assert {weight.dtype for weight in weights} == {"float32"}


@pytest.mark.parametrize("size", [(31, 64), (64, 31)])
def test_images_below_32_pixels_are_refused(size):
    with no_weights():
        backbone = SwinBackbone(**TINY)
    message = "at least 32×32 pixels. Received: {}×{}.".format(*size)
    with pytest.raises(ValueError, match=message):
        backbone(images(0, *size))
