from keras_lrseg.decoders.lr_decoder import LRDecoder

__all__ = ["LRDecoder"]
