from keras_lrseg.backbones.lrformer import LRFormerBackbone

__all__ = ["LRFormerBackbone"]
