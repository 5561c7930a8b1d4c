from keras_lrseg.decoders.criss_cross_decoder import CrissCrossDecoder
from keras_lrseg.decoders.deformable_pixel_decoder import DeformablePixelDecoder
from keras_lrseg.decoders.dual_attention_decoder import DualAttentionDecoder
from keras_lrseg.decoders.freq_fusion_decoder import FreqFusionDecoder
from keras_lrseg.decoders.hamburger_decoder import HamburgerDecoder
from keras_lrseg.decoders.lr_decoder import LRDecoder
from keras_lrseg.decoders.masked_attention_decoder import MaskedAttentionDecoder
from keras_lrseg.decoders.object_context_decoder import ObjectContextDecoder
from keras_lrseg.decoders.pyramid_pooling_decoder import PyramidPoolingDecoder
from keras_lrseg.decoders.segformer_decoder import SegFormerDecoder

__all__ = [
    "CrissCrossDecoder",
    "DeformablePixelDecoder",
    "DualAttentionDecoder",
    "FreqFusionDecoder",
    "HamburgerDecoder",
    "LRDecoder",
    "MaskedAttentionDecoder",
    "ObjectContextDecoder",
    "PyramidPoolingDecoder",
    "SegFormerDecoder",
]
