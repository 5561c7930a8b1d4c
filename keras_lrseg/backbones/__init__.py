from keras_lrseg.backbones.efficientformer_v2 import EfficientFormerV2Backbone
from keras_lrseg.backbones.lrformer import LRFormerBackbone
from keras_lrseg.backbones.mix_transformer import MixTransformerBackbone
from keras_lrseg.backbones.mscan import MSCANBackbone
from keras_lrseg.backbones.swin import SwinBackbone

__all__ = [
    "EfficientFormerV2Backbone",
    "LRFormerBackbone",
    "MSCANBackbone",
    "MixTransformerBackbone",
    "SwinBackbone",
]
