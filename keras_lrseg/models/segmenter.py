"""Backbone, decoder and classifier composed to a semantic segmenter."""

import keras
import numpy as np

from keras_lrseg.backbones.inputs import check_input_shape
from keras_lrseg.layers import ChannelDropout, ResizeLike
from keras_lrseg.models.image_model import (
    ImageModel,
    activation_name,
    check_names,
    from_parts,
    make_preprocessing,
    pyramid_model,
)


@keras.saving.register_keras_serializable(package="keras_lrseg")
class SemanticSegmenter(ImageModel):
    """A segmenter is a backbone, a decoder and a classifier.

    Args:
        backbone: model from normalised images to a dict of features, or any model with
            `pyramid_outputs` (the contract of KerasHub's `FeaturePyramidBackbone`).
        decoder: layer from that dict to one feature map.
        classifier: layer from features to logits, for example a 1×1 convolution.
        input_shape: (height, width, 3); None for an unknown size.
        include_preprocessing: take RGB in 0..255 and normalise it with ImageNet's mean
            and standard deviation. False: images come normalised.
        upsample: enlarge the logits bilinearly to the images' size. False: logits at
            the decoder's stride.
        activation: of the result; None gives logits, "softmax" probabilities.
        dropout_rate: probability of dropping a whole channel before the classifier.
        classes: names of the labels, for predictions and exported files; or None.
        palette: their colours, (num_classes, 3) RGB 0..255; or None.

    Input: images (B, H, W, 3), uint8 or float.
    Output: float32 (B, H, W, num_classes), whatever the dtype policy.

    Layers that are frozen stay so in a saved file: of the backbone each one, of decoder
    and classifier the whole. `keras.models.clone_model` gives a plain functional model;
    a copy is `SemanticSegmenter.from_config(model.get_config())`.

    Example:

    >>> model = SemanticSegmenter(backbone, LRDecoder(256), keras.layers.Conv2D(19, 1))
    """

    def __init__(
        self,
        backbone,
        decoder,
        classifier,
        input_shape=(None, None, 3),
        include_preprocessing=True,
        upsample=True,
        activation=None,
        dropout_rate=0.0,
        classes=None,
        palette=None,
        name="semantic_segmenter",
    ):
        # === Layers ===
        images = keras.Input(check_input_shape(input_shape), name="images")
        dropout = ChannelDropout(
            dropout_rate, name="dropout", dtype=decoder.dtype_policy
        )
        activate = keras.layers.Activation(
            activation, dtype="float32", name="activation"
        )
        resize = ResizeLike(dtype="float32", name="resize")

        # === Functional Model ===
        x = make_preprocessing()(images) if include_preprocessing else images
        features = decoder(pyramid_model(backbone)(x))
        logits = classifier(dropout(features))
        x = resize([logits, images]) if upsample else logits
        x = activate(x)
        super().__init__(inputs=images, outputs=x, name=name)
        check_names(self.output_shape[-1], classes, palette)

        # === Config ===
        self.dtype_policy = decoder.dtype_policy  # `compile` scales float16 losses
        self.backbone = backbone
        self.decoder = decoder
        self.classifier = classifier
        self.include_preprocessing = include_preprocessing
        self.upsample = upsample
        self.activation = activation_name(activation)
        self.dropout_rate = dropout_rate
        self.features = features  # symbolic, what the decoder gives
        self.logits = logits  # symbolic, at the decoder's stride
        self.num_classes = self.output_shape[-1]
        self.classes = classes
        self.palette = palette

    @property
    def parts(self) -> dict:
        """Backbone, decoder and classifier by these names."""
        return {
            "backbone": self.backbone,
            "decoder": self.decoder,
            "classifier": self.classifier,
        }

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        return {
            "backbone": serialize(self.backbone),
            "decoder": serialize(self.decoder),
            "classifier": serialize(self.classifier),
            "input_shape": self.input_shape[1:],
            "include_preprocessing": self.include_preprocessing,
            "upsample": self.upsample,
            "activation": self.activation,
            "dropout_rate": self.dropout_rate,
            "classes": None if self.classes is None else list(self.classes),
            "palette": None
            if self.palette is None
            else np.asarray(self.palette).tolist(),
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config):
        return from_parts(cls, config, ("backbone", "decoder", "classifier"))
