import numpy as np
import pytest

from keras_lrseg.backbones.mix_transformer import VARIANTS, MixTransformerBackbone
from tests.helpers import assert_same_model, images, no_weights, run, saved_and_loaded
from tests.tiny import filled

TINY = {"channels": (8, 8, 8, 8), "depths": (1, 1, 1, 1), "num_heads": (1, 2, 4, 4)}


def test_drop_path_rises_linearly_over_all_blocks():
    with no_weights():
        backbone = MixTransformerBackbone(**VARIANTS["B0"])
    stages = [backbone.get_layer(f"stage{i}") for i in (1, 2, 3, 4)]
    rates = [block.drop_path.rate for stage in stages for block in stage.blocks]
    np.testing.assert_allclose(rates, np.linspace(0, 0.1, 8))


def test_pyramid_has_strides_4_to_32_for_any_size():
    channels = {"P2": 4, "P3": 8, "P4": 12, "P5": 16}
    settings = {**TINY, "channels": tuple(channels.values())}
    sizes = {"P2": (25, 33), "P3": (13, 17), "P4": (7, 9), "P5": (4, 5)}
    with no_weights():
        known = MixTransformerBackbone(input_shape=(97, 130, 3), **settings)
        known = known.pyramid_outputs
    backbone = filled(MixTransformerBackbone, **settings)
    pyramid = run(backbone, images(0, 97, 130))
    for level, width in channels.items():
        symbolic = backbone.pyramid_outputs[level]
        assert symbolic.shape == (None, None, None, width)
        assert known[level].shape == (None, *sizes[level], width)
        assert pyramid[level].shape == (1, *sizes[level], width)


def test_smallest_images_give_the_smallest_pyramid():
    backbone = filled(MixTransformerBackbone, **TINY)
    pyramid = run(backbone, images(0, 32, 32))
    assert [x.shape[1:3] for x in pyramid.values()] == [(n, n) for n in (8, 4, 2, 1)]
    assert all(np.isfinite(x).all() for x in pyramid.values())


def test_file_makes_the_same_backbone_again():
    settings = {
        "reductions": (4, 2, 1, 1),
        "expansion_ratio": 2,
        "drop_path_rate": 0.3,
        "epsilon": 1e-5,
        "name": "other_name",
    }
    backbone = filled(MixTransformerBackbone, **TINY, **settings)
    again = saved_and_loaded(backbone)
    assert_same_model(again, backbone)
    config = again.get_config()
    assert {key: config[key] for key in settings} == settings


def test_half_precision_is_that_of_every_level():
    with no_weights():
        backbone = MixTransformerBackbone(**TINY, dtype="mixed_bfloat16")
    assert {x.dtype for x in backbone.pyramid_outputs.values()} == {"bfloat16"}
    assert {weight.dtype for weight in backbone.weights} == {"float32"}


def test_images_below_32_pixels_are_refused():
    with no_weights():
        backbone = MixTransformerBackbone(**TINY)
    with pytest.raises(ValueError, match=r"at least 32×32 pixels.*31×64"):
        backbone(images(0, 31, 64))
