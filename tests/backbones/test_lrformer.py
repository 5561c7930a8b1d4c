from types import SimpleNamespace

import numpy as np
import pytest

from keras_lrseg.backbones.lrformer import VARIANTS, LRFormerBackbone
from keras_lrseg.checkpoints import load_backbone_weights
from tests.helpers import (
    assert_same_model,
    images,
    no_random_start,
    no_weights,
    run,
    saved_and_loaded,
)
from tests.reference import assert_golden, load_state, torch_state
from tests.tiny import filled, tiny_backbone

# Trainable weights, in millions, of the authors' code.
PARAMETERS = {"T": 11.270, "S": 27.861, "B": 59.993, "L": 99.306, "XL": 184.721}


@pytest.mark.parametrize("variant", PARAMETERS)
def test_variant_has_the_authors_number_of_parameters(variant):
    with no_weights():
        backbone = LRFormerBackbone(**VARIANTS[variant])
    count = sum(np.prod(weight.shape) for weight in backbone.trainable_weights)
    assert count / 1e6 == pytest.approx(PARAMETERS[variant], rel=1e-3)


@pytest.mark.parametrize(
    ("variant", "rate"), [("T", 0.1), ("S", 0.2), ("B", 0.4), ("L", 0.6), ("XL", 0.4)]
)
def test_drop_path_rises_linearly_over_all_blocks(variant, rate):
    with no_weights():
        backbone = LRFormerBackbone(**VARIANTS[variant])
    stages = [backbone.get_layer(f"stage{i}") for i in (1, 2, 3, 4)]
    rates = [block.drop_path.rate for stage in stages for block in stage.blocks]
    assert len(rates) == sum(VARIANTS[variant]["depths"])
    assert (rates[0], rates[-1]) == (0, rate)
    np.testing.assert_allclose(np.diff(rates), rate / (len(rates) - 1))


def test_layers_named_for_keras_cv_make_the_pyramid():
    with no_weights():
        backbone = tiny_backbone()
    layers = backbone.pyramid_level_inputs.items()
    made = {level: backbone.get_layer(name).output for level, name in layers}
    assert made.keys() == backbone.pyramid_outputs.keys()
    assert all(made[level] is x for level, x in backbone.pyramid_outputs.items())


def test_only_the_last_two_stages_have_layer_scale():
    with no_weights():
        backbone = tiny_backbone()
    scaled = {w.path.split("/")[0] for w in backbone.weights if w.name == "scale"}
    assert scaled == {"stage3", "stage4"}


def test_pre_norms_of_xl_are_where_the_authors_have_them():
    with no_weights():
        backbone = LRFormerBackbone(**VARIANTS["XL"])
    blocks = {w.path.rpartition("/pre_norm/")[0] for w in backbone.weights}
    assert blocks - {""} == {"stage3/block7", "stage3/block15"}


def test_pyramid_has_strides_4_to_32_for_any_size():
    channels = {"P2": 4, "P3": 6, "P4": 8, "P5": 10}
    sizes = {"P2": (25, 33), "P3": (13, 17), "P4": (7, 9), "P5": (4, 5)}
    settings = {"channels": tuple(channels.values()), "depths": (1, 1, 1, 1)}
    with no_weights():
        known = tiny_backbone(input_shape=(97, 130, 3), **settings).pyramid_outputs
    backbone = filled(tiny_backbone, **settings)
    pyramid = run(backbone, images(0, 97, 130))
    for level, width in channels.items():
        symbolic = backbone.pyramid_outputs[level]
        assert symbolic.shape == (None, None, None, width)
        assert known[level].shape == (None, *sizes[level], width)
        assert pyramid[level].shape == (1, *sizes[level], width)


def test_file_makes_the_same_backbone_again():
    settings = {
        "pool_size": 5,
        "drop_path_rate": 0.3,
        "layer_scale": None,
        "pre_norm_blocks": ((), (), (1,), ()),
        "depthwise": False,
        "feed_forward_depthwise": False,
        "name": "other_name",
    }
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


@pytest.mark.parametrize("size", [(31, 64), (64, 31)])
def test_images_below_32_pixels_are_refused(size):
    with no_weights():
        backbone = tiny_backbone()
    message = "at least 32×32 pixels. Received: {}×{}.".format(*size)
    with pytest.raises(ValueError, match=message):
        backbone(images(0, *size))


@pytest.mark.slow
def test_xl_reproduces_the_authors_features():
    with no_random_start():
        backbone = LRFormerBackbone(**VARIANTS["XL"])
    # A smaller gain than usual: else the depthwise convolutions of so many blocks
    # drown what else the late ones do.
    state = torch_state("lrformer_xl_backbone", depthwise_gain=0.3)
    load_state(SimpleNamespace(backbone=backbone), state, load_backbone_weights)
    pyramid = run(backbone, images("lrformer_xl_backbone_512x512", 512, 512))
    for i, features in enumerate(pyramid.values(), 1):
        case = f"lrformer_xl_backbone_512x512_dwgain0.3/F{i}"
        assert_golden(features.transpose(0, 3, 1, 2), "models.npz", case)
