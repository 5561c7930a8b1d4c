"""Layers of EfficientFormerV2 against numbers of the authors' code."""

import pytest

from keras_lrseg.checkpoints.efficientformer import BACKBONE
from keras_lrseg.layers import (
    AttentionDownsampling,
    ConvolutionNorm,
    EfficientFormerBlock,
    TalkingHeadAttention,
)
from tests.helpers import run
from tests.reference import assert_offseg, load_layer, offseg_inputs, offseg_state


def output(layer, name, place, prefix):
    """The layer's output for a fixture, with its weights as at `place`."""
    x = offseg_inputs(name)["x"]
    state = {prefix + key: value for key, value in offseg_state(name).items()}
    load_layer(layer, x.shape, place, state, BACKBONE)
    return run(layer, x)


def test_attention_is_the_authors():
    layer = TalkingHeadAttention(8, name="attention")
    actual = output(
        layer, "eff_attention4d", "stage3_block0", "network.4.0.token_mixer."
    )
    assert_offseg(actual, "eff_attention4d/out")


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("eff_ffn", {}),
        ("eff_attnffn", {"expansion_ratio": 3, "resolution": 8}),
        ("eff_attnffn_rect", {"expansion_ratio": 3, "resolution": 8}),
        ("eff_attnffn_s2", {"resolution": 16, "strides": 2}),
        ("eff_attnffn_s2_rect", {"resolution": 16, "strides": 2}),
    ],
)
def test_block_is_the_authors(name, settings):
    layer = EfficientFormerBlock(**settings, name="stage3_block0")
    actual = output(layer, name, "stage3_block0", "network.4.0.")
    assert_offseg(actual, f"{name}/out")


@pytest.mark.parametrize("name", ["eff_embed_asub", "eff_embed_asub_rect"])
def test_attention_downsampling_is_the_authors(name):
    layer = AttentionDownsampling(24, 16, name="downsampling4")
    assert_offseg(output(layer, name, "downsampling4", "network.5."), f"{name}/out")


def test_convolutional_downsampling_is_the_authors():
    layer = ConvolutionNorm(24, 3, 2, use_bias=True, name="downsampling2")
    actual = output(layer, "eff_embed_conv", "downsampling2", "network.1.")
    assert_offseg(actual, "eff_embed_conv/out")
