"""Backbone, pixel decoder and mask decoder composed to a segmenter of masks.

Papers: Cheng et al., "Per-Pixel Classification is Not All You Need for Semantic
Segmentation", NeurIPS 2021 (MaskFormer); "Masked-attention Mask Transformer for
Universal Image Segmentation", CVPR 2022 (Mask2Former).
"""

import keras
import numpy as np
from keras import ops

from keras_lrseg.backbones.inputs import check_input_shape
from keras_lrseg.layers import resize_bilinear
from keras_lrseg.layers.convolution import pixelwise_product
from keras_lrseg.models.image_model import (
    ImageModel,
    activation_name,
    check_names,
    from_parts,
    make_preprocessing,
    pyramid_model,
)


@keras.saving.register_keras_serializable(package="keras_lrseg")
class MaskClassificationSegmenter(ImageModel):
    """Segment by classified masks instead of classified pixels.

    Args:
        backbone: model from normalised images to a dict of features, or any model with
            `pyramid_outputs` (the contract of KerasHub's `FeaturePyramidBackbone`).
        pixel_decoder: layer from that dict to mask features and maps to attend to, for
            example `DeformablePixelDecoder`.
        mask_decoder: layer from those to a list of predictions `[class_logits,
            mask_logits]`, for example `MaskedAttentionDecoder`.
        input_shape: (height, width, 3); None for an unknown size.
        include_preprocessing: take RGB in 0..255 and normalise it with ImageNet's mean
            and standard deviation. False: images come normalised.
        upsample: enlarge the mask logits bilinearly to the images' size. False: logits
            at the mask features' stride.
        activation: of the result; None gives logits.
        classes: names of the labels, for predictions and exported files; or None.
        palette: their colours, (num_classes, 3) RGB 0..255; or None.

    Input: images (B, H, W, 3), uint8 or float.
    Output: float32 (B, H, W, num_classes), whatever the dtype policy: each class's
    probabilities times the masks', summed over the queries, see `ClassesOfMasks`.

    `fit` supervises all that the mask decoder predicts: called with `training=True` the
    model returns these pairs of class and mask logits, the last of which is what the
    result is made of. `predictions` holds them as symbolic tensors. Inside another
    model it cannot be trained, that has no such loss: augment in the data.

    Example:

    >>> model = MaskClassificationSegmenter(
    ...     backbone, DeformablePixelDecoder(), MaskedAttentionDecoder(150)
    ... )
    >>> model.compile(optimizer, MaskClassificationLoss(), metrics=[MeanIoU(150)])
    """

    def __init__(
        self,
        backbone,
        pixel_decoder,
        mask_decoder,
        input_shape=(None, None, 3),
        include_preprocessing=True,
        upsample=True,
        activation=None,
        classes=None,
        palette=None,
        name="mask_classification_segmenter",
    ):
        # === Layers ===
        images = keras.Input(check_input_shape(input_shape), name="images")
        compose = ClassesOfMasks(dtype="float32", name="classes_of_masks")
        activate = keras.layers.Activation(
            activation, dtype="float32", name="activation"
        )

        # === Functional Model ===
        x = make_preprocessing()(images) if include_preprocessing else images
        predictions = mask_decoder(pixel_decoder(pyramid_model(backbone)(x)))
        logits = compose(predictions[-1])
        x = compose([*predictions[-1], images]) if upsample else logits
        super().__init__(inputs=images, outputs=activate(x), name=name)
        check_names(self.output_shape[-1], classes, palette)

        # === Config ===
        self.dtype_policy = mask_decoder.dtype_policy  # `compile` scales float16 losses
        self.backbone = backbone
        self.pixel_decoder = pixel_decoder
        self.mask_decoder = mask_decoder
        self.include_preprocessing = include_preprocessing
        self.upsample = upsample
        self.activation = activation_name(activation)
        # Symbolic, at the mask features' stride; no lists, which Keras would wrap.
        self.predictions = tuple(map(tuple, predictions))
        self.logits = logits  # the same
        self.seed_generator = keras.random.SeedGenerator()  # of the loss
        self._predict_all = keras.Function(images, predictions)
        self.num_classes = self.output_shape[-1]
        self.classes = classes
        self.palette = palette

    @property
    def parts(self) -> dict:
        """Backbone, pixel decoder and mask decoder by these names."""
        return {
            "backbone": self.backbone,
            "pixel_decoder": self.pixel_decoder,
            "mask_decoder": self.mask_decoder,
        }

    @property
    def classifier(self) -> keras.layers.Layer:
        """The layer that classifies the queries."""
        return self.mask_decoder.head.classifier

    def call_layers(self, inputs, training=None, mask=None):
        if training:
            return self._all_predictions(inputs)
        return super().call_layers(inputs, training=training, mask=mask)

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        """The loss of all predictions; in an evaluation they are made once more."""
        if not getattr(self.loss, "of_predictions", False):
            raise ValueError(
                f"{type(self).__name__} expects a loss of masks. Type model.compile("
                f"optimizer, MaskClassificationLoss()). Received: loss={self.loss}"
            )
        self._compile_loss.built = True  # or Keras traces this in every call
        if not isinstance(y_pred, (list, tuple)):
            y_pred = self._all_predictions(x)
        loss = self.loss(y, y_pred, sample_weight, seed=self.seed_generator)
        return sum(map(ops.sum, self.losses), loss)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        if isinstance(y_pred, (list, tuple)) and len(self.metrics) > 1:
            y_pred = self._compose(y_pred[-1], self._as_input(x))
        return super().compute_metrics(x, y, y_pred, sample_weight)

    def _compose(self, prediction, images):
        x = [*prediction, images] if self.upsample else prediction
        return self.get_layer("activation")(self.get_layer("classes_of_masks")(x))

    def _all_predictions(self, images):
        return self._predict_all(self._as_input(images))

    def _as_input(self, images):
        (images,) = keras.tree.flatten(images)
        return ops.convert_to_tensor(images, self.input.dtype)

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        return {
            "backbone": serialize(self.backbone),
            "pixel_decoder": serialize(self.pixel_decoder),
            "mask_decoder": serialize(self.mask_decoder),
            "input_shape": self.input_shape[1:],
            "include_preprocessing": self.include_preprocessing,
            "upsample": self.upsample,
            "activation": self.activation,
            "classes": None if self.classes is None else list(self.classes),
            "palette": None
            if self.palette is None
            else np.asarray(self.palette).tolist(),
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config):
        return from_parts(cls, config, ("backbone", "pixel_decoder", "mask_decoder"))


@keras.saving.register_keras_serializable(package="keras_lrseg")
class ClassesOfMasks(keras.layers.Layer):
    """Sum of each class's probability times the mask's, over all queries.

        logits(pixel, class) = Σ over queries of softmax(class)[class] · σ(mask)[pixel]

    The mask logits are enlarged first, bilinearly, as MMSegmentation does it:
    transformers enlarges them to 384×384 whatever the image, and the sum to its size.
    The class "no object", the last one, is left out of the sum.

    Inputs: `[class_logits, mask_logits]` and optionally images of the wanted size:
    (B, Q, K + 1), (B, h, w, Q), (B, H, W, any).
    Output: (B, h, w, K), with images (B, H, W, K).

    Reference: MaskFormer, section 3.4, semantic inference.
    """

    def call(self, inputs):
        classes, masks, *images = inputs
        if images:
            masks = resize_bilinear(masks, ops.shape(images[0])[1:3])
        classes = ops.softmax(classes, axis=-1)[..., :-1]
        return pixelwise_product(ops.sigmoid(masks), classes)

    def compute_output_shape(self, input_shape):
        classes, masks, *images = input_shape
        size = images[0] if images else masks
        return (*size[:3], classes[-1] - 1)
