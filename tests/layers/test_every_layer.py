"""What every public layer must do; the tests beside this one check the numbers."""

from functools import partial

import pytest

from keras_lrseg import layers
from tests.helpers import check_layer

SHAPE = (2, 9, 7, 8)

LAYERS = {
    "ConvolutionNorm": partial(layers.ConvolutionNorm, 6, activation=layers.gelu),
    "ConvolutionNorm with groups": partial(
        layers.ConvolutionNorm, 64, 3, 2, norm="group", use_bias=True
    ),
    "ConvolutionNorm depthwise": partial(layers.ConvolutionNorm, None, 3),
    "ConvolutionalFeedForward": partial(layers.ConvolutionalFeedForward, 2),
    "ConvolutionalFeedForward without depthwise": partial(
        layers.ConvolutionalFeedForward, 2, depthwise=False
    ),
    "ConvolutionalStem": partial(layers.ConvolutionalStem, 8),
    "DepthwiseConvolution": partial(layers.DepthwiseConvolution, 5, residual=True),
    "DepthwiseConvolution with stride": partial(
        layers.DepthwiseConvolution, strides=2, use_bias=False
    ),
    "DropPath": partial(layers.DropPath, 0.5, seed=1),
    "GroupNormalization": partial(layers.GroupNormalization, 2),
    "LRFormerBlock": partial(
        layers.LRFormerBlock, 2, 4, 2, layer_scale=0.1, norm="batch", pre_norm=True
    ),
    "LRFormerStage": partial(
        layers.LRFormerStage,
        2,
        2,
        pool_size=4,
        expansion_ratio=2,
        drop_path_rates=[0.0, 0.2],
        pre_norm_blocks=(1,),
    ),
    "LayerScale": partial(layers.LayerScale, 0.5),
    "LowResolutionSelfAttention": partial(layers.LowResolutionSelfAttention, 2, 4),
    "LowResolutionSelfAttention without convolutions": partial(
        layers.LowResolutionSelfAttention, 4, 16, pyramid_convolutions=[]
    ),
    "MaskOffsetLearning": layers.MaskOffsetLearning,
    "OffsetLearning": partial(layers.OffsetLearning, 5),
    "OffsetLearning without offsets": partial(
        layers.OffsetLearning, 5, class_offset=False, feature_offset=False
    ),
    "OverlappedPatchEmbedding": partial(layers.OverlappedPatchEmbedding, 8),
    "PointwiseConvolution": partial(layers.PointwiseConvolution, 6),
    "ResizeLike": layers.ResizeLike,
    "SymmetricConv2D": partial(layers.SymmetricConv2D, 8, 3, 2),
}
SHAPES = {
    "MaskOffsetLearning": [(2, 1, 5, 8), SHAPE],
    "ResizeLike": [(2, 3, 5, 8), (2, 9, 7, 3)],
}


@pytest.mark.parametrize("name", LAYERS)
def test_layer(name):
    check_layer(LAYERS[name], SHAPES.get(name, SHAPE))


def test_no_public_layer_is_left_out():
    public = {name for name in layers.__all__ if name[0].isupper()}
    assert public == {name.partition(" ")[0] for name in LAYERS}
