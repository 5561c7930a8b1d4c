"""Layers of LRFormer and OffSeg; each is usable alone and depends on Keras only."""

from keras_lrseg.layers.activation import gelu
from keras_lrseg.layers.attention import LowResolutionSelfAttention
from keras_lrseg.layers.block import LRFormerBlock, LRFormerStage
from keras_lrseg.layers.carafe import carafe
from keras_lrseg.layers.convolution import (
    DepthwiseConvolution,
    PatchConv2D,
    PointwiseConvolution,
    SymmetricConv2D,
)
from keras_lrseg.layers.convolution_norm import ConvolutionNorm
from keras_lrseg.layers.deformable_attention import MultiScaleDeformableAttention
from keras_lrseg.layers.efficientformer import (
    AttentionDownsampling,
    EfficientFormerBlock,
    EfficientFormerFeedForward,
    TalkingHeadAttention,
)
from keras_lrseg.layers.embedding import ConvolutionalStem, OverlappedPatchEmbedding
from keras_lrseg.layers.feed_forward import ConvolutionalFeedForward
from keras_lrseg.layers.freq_fusion import FreqFusion
from keras_lrseg.layers.hamburger import Hamburger, NonNegativeFactorization
from keras_lrseg.layers.mix_transformer import (
    EfficientSelfAttention,
    MixFeedForward,
    MixTransformerBlock,
    MixTransformerStage,
)
from keras_lrseg.layers.mscan import MSCABlock, MultiScaleConvolutionalAttention
from keras_lrseg.layers.normalization import (
    BatchNormalization,
    GroupNormalization,
    batch_norm,
)
from keras_lrseg.layers.offset_learning import MaskOffsetLearning, OffsetLearning
from keras_lrseg.layers.regularization import ChannelDropout, DropPath, LayerScale
from keras_lrseg.layers.resampling import (
    ResizeLike,
    adaptive_average_pools,
    resize_bilinear,
)
from keras_lrseg.layers.similarity_resampler import SimilarityGuidedResampler
from keras_lrseg.layers.swin import (
    PatchEmbedding,
    PatchMerging,
    SwinBlock,
    WindowAttention,
)

__all__ = [
    "AttentionDownsampling",
    "BatchNormalization",
    "ChannelDropout",
    "ConvolutionNorm",
    "ConvolutionalFeedForward",
    "ConvolutionalStem",
    "DepthwiseConvolution",
    "DropPath",
    "EfficientFormerBlock",
    "EfficientFormerFeedForward",
    "EfficientSelfAttention",
    "FreqFusion",
    "GroupNormalization",
    "Hamburger",
    "LRFormerBlock",
    "LRFormerStage",
    "LayerScale",
    "LowResolutionSelfAttention",
    "MSCABlock",
    "MaskOffsetLearning",
    "MixFeedForward",
    "MixTransformerBlock",
    "MixTransformerStage",
    "MultiScaleConvolutionalAttention",
    "MultiScaleDeformableAttention",
    "NonNegativeFactorization",
    "OffsetLearning",
    "OverlappedPatchEmbedding",
    "PatchConv2D",
    "PatchEmbedding",
    "PatchMerging",
    "PointwiseConvolution",
    "ResizeLike",
    "SimilarityGuidedResampler",
    "SwinBlock",
    "SymmetricConv2D",
    "TalkingHeadAttention",
    "WindowAttention",
    "adaptive_average_pools",
    "batch_norm",
    "carafe",
    "gelu",
    "resize_bilinear",
]
