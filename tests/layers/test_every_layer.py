"""What every public layer must do; the tests beside this one check the numbers."""

from functools import partial

import pytest

from keras_lrseg import layers
from tests.checks import check_layer

SHAPE = (2, 9, 7, 8)

LAYERS = {
    "AttentionDownsampling": partial(
        layers.AttentionDownsampling,
        6,
        8,
        num_heads=2,
        key_channels=4,
        value_channels=6,
    ),
    "BatchNormalization": layers.batch_norm,
    "ConvolutionNorm": partial(layers.ConvolutionNorm, 6, activation=layers.gelu),
    "ConvolutionNorm with groups": partial(
        layers.ConvolutionNorm, 64, 3, 2, norm="group", use_bias=True
    ),
    "ConvolutionNorm depthwise": partial(layers.ConvolutionNorm, None, 3),
    "ConvolutionNorm that starts otherwise": partial(
        layers.ConvolutionNorm, 6, kernel_initializer="he_normal"
    ),
    "ConvolutionalFeedForward": partial(layers.ConvolutionalFeedForward, 2),
    "ConvolutionalFeedForward without depthwise": partial(
        layers.ConvolutionalFeedForward, 2, depthwise=False
    ),
    "ConvolutionalStem": partial(layers.ConvolutionalStem, 8),
    "DepthwiseConvolution": partial(layers.DepthwiseConvolution, 5, residual=True),
    "DepthwiseConvolution with stride": partial(
        layers.DepthwiseConvolution, strides=2, use_bias=False
    ),
    "DepthwiseConvolution with strips": partial(
        layers.DepthwiseConvolution, (1, 7), kernel_initializer="he_normal"
    ),
    "ChannelDropout": partial(layers.ChannelDropout, 0.5, seed=1),
    "DropPath": partial(layers.DropPath, 0.5, seed=1),
    "EfficientSelfAttention": partial(layers.EfficientSelfAttention, 2, 4),
    "EfficientFormerBlock": partial(
        layers.EfficientFormerBlock, 2, resolution=8, strides=2, layer_scale=0.1
    ),
    "EfficientFormerBlock without attention": partial(
        layers.EfficientFormerBlock, 2, drop_path_rate=0.2
    ),
    "EfficientFormerFeedForward": partial(layers.EfficientFormerFeedForward, 2),
    "FreqFusion": layers.FreqFusion,
    "GroupNormalization": partial(layers.GroupNormalization, 2),
    "Hamburger": partial(layers.Hamburger, 4, seed=1),
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
    "MSCABlock": partial(layers.MSCABlock, 2, drop_path_rate=0.2, layer_scale=0.1),
    "MixFeedForward": partial(layers.MixFeedForward, 2),
    "MixTransformerBlock": partial(
        layers.MixTransformerBlock, 2, 2, 2, drop_path_rate=0.2
    ),
    "MixTransformerStage": partial(
        layers.MixTransformerStage,
        8,
        depth=1,
        num_heads=2,
        reduction=2,
        expansion_ratio=2,
        drop_path_rates=[0.2],
    ),
    "MultiScaleConvolutionalAttention": layers.MultiScaleConvolutionalAttention,
    "NonNegativeFactorization": partial(layers.NonNegativeFactorization, 4, 3, 2),
    "OffsetLearning": partial(layers.OffsetLearning, 5),
    "OffsetLearning without offsets": partial(
        layers.OffsetLearning, 5, class_offset=False, feature_offset=False
    ),
    "OverlappedPatchEmbedding": partial(layers.OverlappedPatchEmbedding, 8),
    "OverlappedPatchEmbedding of the Mix Transformer": partial(
        layers.OverlappedPatchEmbedding, 8, 7, 4, 1e-5, "he_normal"
    ),
    "PatchConv2D": partial(layers.PatchConv2D, 6, 4),
    "PatchEmbedding": partial(layers.PatchEmbedding, 6),
    "PatchMerging": partial(layers.PatchMerging, 6),
    "PointwiseConvolution": partial(layers.PointwiseConvolution, 6),
    "ResizeLike": layers.ResizeLike,
    "SimilarityGuidedResampler": layers.SimilarityGuidedResampler,
    "SwinBlock": partial(layers.SwinBlock, 2, 3, 1, 2, drop_path_rate=0.2),
    "SymmetricConv2D": partial(layers.SymmetricConv2D, 8, 3, 2),
    "WindowAttention": partial(layers.WindowAttention, 2, 4, 1),
    "TalkingHeadAttention": partial(
        layers.TalkingHeadAttention, 9, num_heads=2, key_channels=4, value_channels=6
    ),
}
SHAPES = {
    "FreqFusion": [(2, 5, 3, 16), (2, 3, 2, 16)],
    "Hamburger": (2, 9, 7, 32),
    "ResizeLike": [(2, 3, 5, 8), (2, 9, 7, 3)],
    "SimilarityGuidedResampler": [(2, 9, 7, 8), (2, 5, 4, 8), (2, 9, 7, 4)],
}
# A second size, where the inputs' sizes depend on each other.
LARGER = {
    "FreqFusion": [(2, 12, 9, 16), (2, 6, 5, 16)],
    "SimilarityGuidedResampler": [(2, 12, 9, 8), (2, 6, 5, 8), (2, 12, 9, 4)],
}


@pytest.mark.parametrize("name", LAYERS)
def test_layer(name):
    check_layer(LAYERS[name], SHAPES.get(name, SHAPE), LARGER.get(name))


def test_no_public_layer_is_left_out():
    public = {name for name in layers.__all__ if name[0].isupper()}
    # Their embeddings and tokens are no maps.
    public -= {"MaskOffsetLearning", "MultiScaleDeformableAttention"}
    assert public == {name.partition(" ")[0] for name in LAYERS}
