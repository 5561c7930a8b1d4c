import pytest

from keras_lrseg.layers import LowResolutionSelfAttention
from keras_lrseg.layers.attention import make_pyramid_convolutions
from tests.helpers import normal, refused, run
from tests.reference import assert_golden, load_layer, state_of

BACKBONE_CASES = {
    "pooling_attention_down_landscape": (20, 30),
    "pooling_attention_down_portrait": (34, 18),
    "pooling_attention_up": (5, 4),
    "pooling_attention_same": (16, 16),
}
DECODER_CASES = {
    "head_pooling_attention_down": (40, 48),
    "head_pooling_attention_up": (8, 6),
}


@pytest.mark.parametrize("case", BACKBONE_CASES)
def test_attention_of_the_backbone_reproduces_the_authors_output(case):
    height, width = BACKBONE_CASES[case]
    shape = (1, height, width, 96)
    shared = make_pyramid_convolutions()
    for level, convolution in enumerate(shared):
        state = state_of(f"backbone.d_convs3.{level}.")
        load_layer(convolution, shape, "stage3", state)
    attention = load_layer(
        LowResolutionSelfAttention(4, pyramid_convolutions=shared, name="attention"),
        shape,
        "stage3/block0",
        state_of("backbone.block3.0.attn.", "backbone.d_convs3."),
    )
    x = normal(case, (1, height * width, 96))
    y = run(attention, x.reshape(shape))
    assert_golden(y.reshape(x.shape), "layers.npz", case)


@pytest.mark.parametrize("case", DECODER_CASES)
def test_attention_of_the_decoder_reproduces_the_authors_output(case):
    x = normal(case, (1, 64, *DECODER_CASES[case])).transpose(0, 2, 3, 1)
    attention = load_layer(
        LowResolutionSelfAttention(8, 32, pyramid_convolutions=[], name="attention"),
        x.shape,
        "decoder/block1",
        state_of("decode_head.fuse_block1.attn."),
    )
    assert_golden(run(attention, x).transpose(0, 3, 1, 2), "layers.npz", case)


def test_heads_must_divide_the_channels():
    with refused("multiple of num_heads", "channels=10", "num_heads=4"):
        LowResolutionSelfAttention(4).build((None, 8, 8, 10))


@pytest.mark.parametrize("pool_size", [0, 1, -3, 7.5, "7"])
def test_pool_size_must_leave_a_cell_in_every_grid(pool_size):
    with refused("pool_size expects an integer from 2", repr(pool_size)):
        LowResolutionSelfAttention(4, pool_size)


def test_pyramid_needs_a_convolution_for_each_level():
    with refused("expects 4 layers or none", "1"):
        LowResolutionSelfAttention(4, pyramid_convolutions=[None])


def test_flops_are_those_of_the_two_attention_products():
    # 16×32 queries; 11×22, 8×16, 6×12 and 4×8 keys.
    keys = 242 + 128 + 72 + 32
    flops = LowResolutionSelfAttention(4).attention_flops((3, 64, 128, 96))
    assert flops == 3 * 2 * (16 * 32) * keys * 96
