import numpy as np
import pytest

from keras_lrseg.backbones import MSCANBackbone
from keras_lrseg.backbones.mscan import VARIANTS
from keras_lrseg.checkpoints import segnext
from keras_lrseg.checkpoints.convert import Names
from keras_lrseg.layers import ConvolutionNorm, gelu
from tests.helpers import assert_same_model, images, no_weights, run, saved_and_loaded
from tests.reference import assert_offseg, load_layer, offseg_inputs, offseg_state
from tests.tiny import filled

TINY = {"channels": (8, 8, 8, 8), "depths": (1, 1, 2, 1)}


def tiny(**settings):
    return MSCANBackbone(**{**TINY, **settings})


def reference_embedding(width, index, x, state, **settings):
    layer = ConvolutionNorm(width, 3, 2, use_bias=True, **settings)
    place = (r"^", f"embedding{index}/")
    names = Names(place, *segnext.BACKBONE.rules, (r"^patch_embed\d/", ""))
    return run(load_layer(layer, x.shape, "", state, names), x)


def test_stem_is_the_authors():
    x, state = offseg_inputs("mscan_stem")["x"], offseg_state("mscan_stem")
    late = {key: state.pop(key) for key in list(state) if key[5] in "34"}
    x = reference_embedding(8, 0, x, state, activation=gelu)
    assert_offseg(reference_embedding(16, 1, x, late), "mscan_stem/out")


def test_patch_embedding_is_the_authors():
    name = "mscan_patch_embed"
    x = offseg_inputs(name)["x"]
    y = reference_embedding(24, 2, x, offseg_state(name))
    assert_offseg(y, f"{name}/out")


@pytest.mark.parametrize("variant", VARIANTS)
def test_drop_path_rises_linearly_over_all_blocks(variant):
    settings = VARIANTS[variant]
    with no_weights():
        backbone = tiny(
            depths=settings["depths"], drop_path_rate=settings["drop_path_rate"]
        )
    blocks = [layer for layer in backbone.layers if "_block" in layer.name]
    assert len(blocks) == sum(settings["depths"])
    rates = [block.drop_path.rate for block in blocks]
    assert (rates[0], rates[-1]) == (0, 0.3 if variant == "L" else 0.1)
    np.testing.assert_allclose(np.diff(rates), rates[-1] / (len(rates) - 1))


def test_pyramid_has_strides_4_to_32_for_any_size():
    channels = {"P2": 4, "P3": 6, "P4": 8, "P5": 10}
    sizes = {"P2": (25, 33), "P3": (13, 17), "P4": (7, 9), "P5": (4, 5)}
    settings = {"channels": tuple(channels.values()), "depths": (1, 1, 1, 1)}
    backbone = filled(tiny, **settings)
    pyramid = run(backbone, images(0, 97, 130))
    for level, width in channels.items():
        symbolic = backbone.pyramid_outputs[level]
        assert symbolic.shape == (None, None, None, width)
        assert pyramid[level].shape == (1, *sizes[level], width)
        made_by = backbone.get_layer(backbone.pyramid_level_inputs[level])
        assert made_by.output is symbolic


def test_file_makes_the_same_backbone_again():
    settings = {
        "expansion_ratios": (2, 2, 3, 3),
        "drop_path_rate": 0.3,
        "layer_scale": 0.5,
        "input_shape": (64, None, 3),
        "name": "other_name",
    }
    backbone = filled(tiny, **settings)
    again = saved_and_loaded(backbone)
    assert_same_model(again, backbone)
    config = again.get_config()
    assert {key: config[key] for key in settings} == settings


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_is_that_of_every_level(policy):
    with no_weights():
        backbone = tiny(dtype=policy)
    assert {x.dtype for x in backbone.pyramid_outputs.values()} == {policy[6:]}
    assert {weight.dtype for weight in backbone.weights} == {"float32"}


@pytest.mark.parametrize("size", [(31, 64), (64, 31)])
def test_images_below_32_pixels_are_refused(size):
    with no_weights():
        backbone = tiny()
    message = "at least 32×32 pixels. Received: {}×{}.".format(*size)
    with pytest.raises(ValueError, match=message):
        backbone(images(0, *size))
