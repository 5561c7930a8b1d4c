import numpy as np
import pytest

from keras_lrseg.backbones.efficientformer_v2 import VARIANTS, EfficientFormerV2Backbone
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

# Blocks, and the last drop path rate, of each variant.
DEPTHS = {"S0": 14, "S1": 21, "S2": 28, "L": 35}
RATES = {"S0": 0, "S1": 0, "S2": 0.02, "L": 0.1}


def tiny_backbone(**settings):
    ratios = ((1,), (1,), (1, 2), (1,))
    settings = {"attention_blocks": 1, "resolution": 64, **settings}
    return EfficientFormerV2Backbone((4, 6, 8, 10), ratios, **settings)


def blocks_of(backbone):
    return [layer for layer in backbone.layers if "_block" in layer.name]


@pytest.mark.parametrize("variant", VARIANTS)
def test_drop_path_rises_linearly_over_all_blocks(variant):
    with no_weights():
        backbone = EfficientFormerV2Backbone(**VARIANTS[variant])
    rates = [block.drop_path_rate for block in blocks_of(backbone)]
    expected = np.linspace(0, RATES[variant], DEPTHS[variant])
    np.testing.assert_allclose(rates, expected)


def test_tables_are_those_of_the_resolution():
    for resolution, sides in ((512, (16, 32, 16)), (224, (7, 14, 7)), (100, (4, 7, 4))):
        with no_weights():
            backbone = tiny_backbone(resolution=resolution)
        shapes = [w.shape for w in backbone.weights if w.name == "attention_bias"]
        assert shapes == [(8, side**2) for side in sides]


def test_pyramid_has_strides_4_to_32_for_any_size():
    sizes = {"P2": (25, 33, 4), "P3": (13, 17, 6), "P4": (7, 9, 8), "P5": (4, 5, 10)}
    with no_weights():
        known = tiny_backbone(input_shape=(97, 130, 3)).pyramid_outputs
    backbone = filled(tiny_backbone)
    pyramid = run(backbone, images(0, 97, 130))
    for level, shape in sizes.items():
        symbolic = backbone.pyramid_outputs[level]
        assert symbolic.shape == (None, None, None, shape[-1])
        assert known[level].shape == (None, *shape)
        assert pyramid[level].shape == (1, *shape)
        assert pyramid[level].std() > 0


@tensorflow_only
@pytest.mark.parametrize("size", [(64, 64), (97, 130)])
def test_sizes_unknown_in_the_graph_give_the_same(size):
    backbone = filled(tiny_backbone)
    x = images(0, *size)
    dynamic = run_dynamic(backbone, x)
    for level, expected in run(backbone, x).items():
        assert abs(dynamic[level] - expected).max() <= 1e-4 * expected.std()


def test_an_odd_size_is_near_the_even_one_around_it():
    """Beyond the authors' sizes: rounded up, and nothing is shifted."""
    backbone = filled(tiny_backbone)
    columns = np.linspace(-1, 1, 8, dtype="float32").repeat(32)[None, None, :, None]
    x = np.broadcast_to(columns, (1, 256, 256, 3))
    even, odd = run(backbone, x), run(backbone, x[:, :-3, :-3])
    for level, expected in even.items():
        inside = (slice(None), slice(0, -2), slice(0, -2))
        assert odd[level].shape == expected.shape
        difference = abs(odd[level] - expected)[inside]
        assert difference.max() <= 0.1 * expected.std()  # half a pixel: 0.2


def test_layers_named_for_keras_cv_make_the_pyramid():
    with no_weights():
        backbone = tiny_backbone()
    for level, name in backbone.pyramid_level_inputs.items():
        assert backbone.get_layer(name).output is backbone.pyramid_outputs[level]


def test_file_makes_the_same_backbone_again():
    settings = {"drop_path_rate": 0.3, "layer_scale": 0.5, "name": "other_name"}
    backbone = filled(tiny_backbone, **settings)
    again = saved_and_loaded(backbone)
    assert_same_model(again, backbone)
    config = again.get_config()
    assert {key: config[key] for key in settings} == settings


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_is_that_of_every_level(policy):
    with no_weights():
        backbone = tiny_backbone(dtype=policy)
    assert {x.dtype for x in backbone.pyramid_outputs.values()} == {policy[6:]}
    assert {weight.dtype for weight in backbone.weights} == {"float32"}


def test_more_attention_than_blocks_is_refused():
    message = "attention_blocks expects at most .* 1. Received: 2"
    with pytest.raises(ValueError, match=message):
        tiny_backbone(attention_blocks=2)


@pytest.mark.parametrize("size", [(31, 64), (64, 31)])
def test_images_below_32_pixels_are_refused(size):
    with no_weights():
        backbone = tiny_backbone()
    message = "at least 32×32 pixels. Received: {}×{}.".format(*size)
    with pytest.raises(ValueError, match=message):
        backbone(images(0, *size))
