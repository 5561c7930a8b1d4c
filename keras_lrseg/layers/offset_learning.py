"""Offset Learning: classification by class representations and pixel features that
are shifted towards each other (OffSeg, ICCV 2025).

The authors attach a patent notice to the method: non-commercial use only.
"""

import keras
from keras import ops

from keras_lrseg.layers.arguments import as_integer
from keras_lrseg.layers.convolution import pixelwise_product
from keras_lrseg.layers.linear import linear
from keras_lrseg.layers.softmax import means_of_pixels, softmax

NOTICE = (
    "Patent notice: the authors of OffSeg permit non-commercial use of Offset Learning "
    "only"
)


def notices(model: keras.Model) -> list[str]:
    """Return what the layers of a model ask all to say that hand it on."""
    found = (getattr(layer, "NOTICE", None) for layer in model._flatten_layers())
    return list(dict.fromkeys(filter(None, found)))


@keras.saving.register_keras_serializable(package="keras_lrseg")
class OffsetLearning(keras.layers.Layer):
    """Classify pixels by representations that adapt to the image, and it to them.

    With features E (N, C) of N pixels, learnt class representations W (K, C) and
    A = W·Eᵀ:

        W' = W + (softmax over the pixels of A) · E · P_c       class branch
        E' = E + (softmax over the classes of A)ᵀ · W · P_f     feature branch
        logits = layer norm over the classes of E' · W'ᵀ

    They are computed as `E·W'ᵀ + softmax(A)ᵀ · (W·P_f·W'ᵀ)`, which is the same without
    E' and without a product of N·C² multiplications: 3·N·K·C + N·K² in place of
    4·N·K·C + N·C². The layer norm is in the authors' code, not in the paper.

    Args:
        num_classes: K.
        class_offset: the class branch (Table 6); False: W' = W.
        feature_offset: the feature branch (Table 6); False: E' = E.

    Input: features (B, H, W, C). Output: logits (B, H, W, K).

    Raises:
        ValueError: if `num_classes` is below 2; when it is called with another number
            of channels than it was built for.

    Patent notice: the authors of OffSeg permit non-commercial use of the method only.

    Reference: OffSeg, section 3.3, equations (4)-(13).

    Example:

    >>> OffsetLearning(19)(keras.ops.ones((1, 64, 128, 256))).shape
    (1, 64, 128, 19)
    """

    NOTICE = NOTICE  # exported files and model cards carry it

    def __init__(self, num_classes, class_offset=True, feature_offset=True, **kwargs):
        super().__init__(**kwargs)
        self.num_classes = as_integer(num_classes)
        if self.num_classes is None or self.num_classes < 2:
            raise ValueError(
                "num_classes expects an integer from 2. "
                f"Received: num_classes={num_classes!r}"
            )
        self.class_offset = class_offset
        self.feature_offset = feature_offset

    def build(self, input_shape):
        channels = input_shape[-1]
        self.input_spec = keras.layers.InputSpec(ndim=4, axes={-1: channels})
        shape = (self.num_classes, channels)
        self.class_representations = self.add_weight(
            name="class_representations",
            shape=shape,
            initializer=keras.initializers.TruncatedNormal(stddev=0.02),
        )
        if self.class_offset:
            self.class_projection = _projection(
                shape, "class_projection", self.dtype_policy
            )
        if self.feature_offset:
            self.feature_projection = _projection(
                shape, "feature_projection", self.dtype_policy
            )
        half = self.compute_dtype == "float16"
        self.norm = keras.layers.LayerNormalization(
            epsilon=1e-5, name="norm", dtype="float32" if half else self.dtype_policy
        )
        self.norm.build((*input_shape[:-1], self.num_classes))

    def call(self, x):
        representations = ops.convert_to_tensor(self.class_representations)
        if self.compute_dtype == "float16":  # products of large features exceed it
            x = ops.cast(x, "float32")
            representations = ops.cast(representations, "float32")
        aligned = representations
        affinity = pixelwise_product(x, ops.transpose(aligned))  # (B, H, W, K)
        logits = affinity
        if self.class_offset:
            offset = means_of_pixels(x, affinity)  # (B, K, C)
            aligned = aligned + ops.cast(self.class_projection(offset), x.dtype)
            logits = pixelwise_product(x, ops.swapaxes(aligned, 1, 2))
        if self.feature_offset:
            values = self.feature_projection(representations)  # (K, C)
            values = ops.cast(values, x.dtype)
            values = ops.matmul(values, ops.swapaxes(aligned, -1, -2))  # (B, K, K)
            logits = logits + pixelwise_product(softmax(affinity), values)
        return ops.cast(self.norm(logits), self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.num_classes)

    def attention_flops(self, input_shape):
        """Multiply-accumulates of the products, in the order that is computed."""
        batch, height, width, c = input_shape
        n, k = batch * height * width, self.num_classes
        flops = n * k * c
        if self.class_offset:
            flops += 2 * n * k * c
        if self.feature_offset:
            flops += n * k * k + (batch if self.class_offset else 1) * k * k * c
        return flops

    def published_flops(self, input_shape):
        """The same as the equations are written."""
        batch, height, width, c = input_shape
        n, k = batch * height * width, self.num_classes
        flops = 2 * n * k * c
        if self.class_offset:
            flops += n * k * c
        if self.feature_offset:
            # P_f acts on each pixel there; the linear map itself counts K·C² already.
            flops += n * k * c + n * c * c - k * c * c
        return flops

    def get_config(self):
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "class_offset": self.class_offset,
            "feature_offset": self.feature_offset,
        }


@keras.saving.register_keras_serializable(package="keras_lrseg")
class MaskOffsetLearning(keras.layers.Layer):
    """Offset Learning for mask classification: queries take the place of classes.

    Equations (4)-(13) with the mask embeddings as W, without the final layer norm:

        W' = W + (softmax over the pixels of W·Eᵀ) · E · P_c
        E' = E + (softmax over the queries of W·Eᵀ)ᵀ · W · P_f

    Inputs: `[mask_embeddings, mask_features]`, (B, Q, C) and (B, H, W, C).
    Outputs: `[W', E']` of the same shapes.

    Patent notice: the authors of OffSeg permit non-commercial use of the method only.

    Reference: OffSeg, section 3.3 and Table 5 (Mask2Former).
    """

    NOTICE = NOTICE

    def build(self, input_shape):
        embeddings, features = input_shape
        channels = features[-1]
        if embeddings[-1] != channels:
            raise ValueError(
                "Mask embeddings and mask features must have as many channels. "
                f"Received: {embeddings[-1]} and {channels}"
            )
        self.class_projection, self.feature_projection = (
            _projection(embeddings, name, self.dtype_policy)
            for name in ("class_projection", "feature_projection")
        )

    def call(self, inputs):
        embeddings, features = inputs
        affinity = pixelwise_product(features, ops.swapaxes(embeddings, 1, 2))
        offset = means_of_pixels(features, affinity)  # (B, Q, C)
        values = self.feature_projection(embeddings)
        aligned = features + pixelwise_product(softmax(affinity), values)
        return [embeddings + self.class_projection(offset), aligned]

    def compute_output_shape(self, input_shape):
        return list(input_shape)

    def attention_flops(self, input_shape):
        """Multiply-accumulates of the products, in the order that is computed."""
        (batch, queries, _), (_, height, width, channels) = input_shape
        return 3 * batch * height * width * queries * channels

    def published_flops(self, input_shape):
        """The same as the equations are written."""
        (batch, queries, c), (_, height, width, _) = input_shape
        every_pixel = batch * (height * width - queries) * c * c
        return self.attention_flops(input_shape) + every_pixel


def _projection(shape, name, dtype):
    """The linear map of an offset, P_c or P_f, built."""
    layer = linear(shape[-1], use_bias=False, name=name, dtype=dtype)
    layer.build(shape)
    return layer
