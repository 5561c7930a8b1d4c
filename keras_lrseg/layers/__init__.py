"""Layers of LRFormer and OffSeg; each is usable alone and depends on Keras only."""

from keras_lrseg.layers.activation import gelu
from keras_lrseg.layers.attention import LowResolutionSelfAttention
from keras_lrseg.layers.block import LRFormerBlock, LRFormerStage
from keras_lrseg.layers.convolution import (
    DepthwiseConvolution,
    PointwiseConvolution,
    SymmetricConv2D,
)
from keras_lrseg.layers.convolution_norm import ConvolutionNorm
from keras_lrseg.layers.embedding import ConvolutionalStem, OverlappedPatchEmbedding
from keras_lrseg.layers.feed_forward import ConvolutionalFeedForward
from keras_lrseg.layers.normalization import GroupNormalization, batch_norm
from keras_lrseg.layers.offset_learning import MaskOffsetLearning, OffsetLearning
from keras_lrseg.layers.regularization import DropPath, LayerScale
from keras_lrseg.layers.resampling import (
    ResizeLike,
    adaptive_average_pools,
    resize_bilinear,
)

__all__ = [
    "ConvolutionNorm",
    "ConvolutionalFeedForward",
    "ConvolutionalStem",
    "DepthwiseConvolution",
    "DropPath",
    "GroupNormalization",
    "LRFormerBlock",
    "LRFormerStage",
    "LayerScale",
    "LowResolutionSelfAttention",
    "MaskOffsetLearning",
    "OffsetLearning",
    "OverlappedPatchEmbedding",
    "PointwiseConvolution",
    "ResizeLike",
    "SymmetricConv2D",
    "adaptive_average_pools",
    "batch_norm",
    "gelu",
    "resize_bilinear",
]
