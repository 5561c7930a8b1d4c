import numpy as np
import pytest

from keras_lrseg.layers import LRFormerBlock, LRFormerStage
from tests.helpers import fill, normal, numpy, refused, run, tensors
from tests.reference import assert_golden, load_layer, manifest, state_of, torch_tensor

# Stage, heads, expansion ratio, layer scale and input shape.
CASES = {
    "block_stage1_no_layer_scale": (1, 1, 8, None, (1, 20, 24, 24)),
    "block_stage2_no_layer_scale_up": (2, 2, 8, None, (1, 6, 9, 48)),
    "block_stage4_layer_scale": (4, 4, 4, 1e-6, (1, 18, 17, 128)),
}


@pytest.mark.parametrize("case", CASES)
def test_block_reproduces_the_authors_output(case):
    number, heads, ratio, scale, shape = CASES[case]
    stage = LRFormerStage(1, heads, 16, ratio, scale, name=f"stage{number}")
    state = state_of(f"backbone.block{number}.0.", f"backbone.d_convs{number}.")
    assert_stage(case, stage, shape, state)


def test_block_with_a_norm_in_front_reproduces_the_authors_output():
    case = "block_pre_norm"
    state = {
        key.replace("pre_norm_block", "block1.0").replace(
            "pre_norm_d_convs", "d_convs1"
        ): torch_tensor(key, shape)
        for key, shape in manifest(case).items()
    }
    stage = LRFormerStage(1, 2, layer_scale=1e-6, pre_norm_blocks=(0,), name="stage1")
    assert_stage(case, stage, (1, 18, 20, 32), state)


def assert_stage(case, stage, shape, state):
    load_layer(stage, shape, "", state)
    batch, height, width, channels = shape
    x = normal(case, (batch, height * width, channels))
    y = run(stage, x.reshape(shape))
    assert_golden(y.reshape(x.shape), "layers.npz", case)


@pytest.mark.parametrize(
    ("case", "size"), [("head_block_down", (40, 48)), ("head_block_up", (8, 6))]
)
def test_block_of_the_decoder_reproduces_the_authors_output(case, size):
    x = normal(case, (1, 64, *size)).transpose(0, 2, 3, 1)
    block = LRFormerBlock(
        8, 32, 4, 1e-6, norm="batch", pyramid_convolutions=[], name="block2"
    )
    load_layer(block, x.shape, "decoder", state_of("decode_head.fuse_block2."))
    assert_golden(run(block, x).transpose(0, 3, 1, 2), "layers.npz", case)


def test_dropped_paths_leave_the_depthwise_convolution():
    x = normal("features", (2, 5, 7, 8))
    block = LRFormerBlock(2, 4, 2, drop_path_rate=1 - 1e-6, pyramid_convolutions=[])
    block.build(x.shape)
    fill(block)
    expected = run(block.convolution, x)
    dropped = numpy(block(tensors(x), training=True))
    np.testing.assert_allclose(dropped, expected, rtol=1e-5)
    assert abs(run(block, x) - expected).max() > 0.1


def test_blocks_of_a_stage_share_their_pyramids_convolutions():
    stage = LRFormerStage(3, 2)
    stage.build((None, None, None, 8))
    shared = [w for w in stage.weights if "pyramid" in w.path]
    assert len(shared) == 4 * 2  # kernel and bias of four levels
    for block in stage.blocks:
        assert block.attention.pyramid_convolutions == stage.pyramid_convolutions


def test_ablations_leave_out_the_convolution_they_name():
    def names(**settings):
        block = LRFormerBlock(2, **settings)
        block.build((None, None, None, 8))
        return {w.path.split("/", 1)[1] for w in block.weights}

    every = names()
    assert every - names(depthwise=False) == {"convolution/kernel", "convolution/bias"}
    assert every - names(feed_forward_depthwise=False) == {
        "feed_forward/convolution/kernel",
        "feed_forward/convolution/bias",
    }


def test_configuration_keeps_an_empty_list_of_pyramid_convolutions():
    block = LRFormerBlock(2, pyramid_convolutions=[])
    again = LRFormerBlock.from_config(block.get_config())
    assert again.attention.pyramid_convolutions == []


def test_unknown_norm_is_refused_with_the_valid_ones():
    with refused('"layer"', '"batch"', "'group'"):
        LRFormerBlock(2, norm="group")
