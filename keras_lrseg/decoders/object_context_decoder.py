"""Object-contextual representations (OCR; Yuan et al., ECCV 2020)."""

import keras
from keras import ops

from keras_lrseg.decoders.context_decoder import ContextDecoder
from keras_lrseg.layers import PointwiseConvolution
from keras_lrseg.layers.convolution import pixelwise_product
from keras_lrseg.layers.softmax import means_of_pixels, softmax


@keras.saving.register_keras_serializable(package="keras_lrseg")
class ObjectContextDecoder(ContextDecoder):
    """Tell each pixel what the objects look like that it resembles.

    1. Soft object regions: two 1×1 convolutions give each pixel logits of the classes.
    2. Region representations: for each class the mean of the pixels, weighted by the
       softmax of its logits over all pixels (equation 2).
    3. Each pixel's mean of the representations, transformed, weighted by the softmax of
       its similarity to them (equations 3 and 4), fused with the pixel (equation 5).

    The paper trains the regions by a cross-entropy of their own, weighted 0.4:

    >>> model = SemanticSegmenter(backbone, ObjectContextDecoder(384, 150), ...)
    >>> both = keras.Model(model.input, [model.output, model.decoder.region_output()])
    >>> both.compile("adamw", [SegmentationCrossEntropy()] * 2, loss_weights=[1, 0.4])

    Save `model` then: `both` shares its weights and cannot be loaded again.

    Args:
        channels: output channels.
        num_classes: K, the number of regions.

    Input, output and errors are those of `ContextDecoder`.

    Reference: Object-Contextual Representations for Semantic Segmentation, section 3.
    """

    def __init__(self, channels, num_classes, **kwargs):
        super().__init__(channels, **kwargs)
        self.num_classes = num_classes

    def build(self, input_shape):
        super().build(input_shape)
        self.given_levels = sorted(input_shape)

    def build_context(self, shape):
        half = self.channels // 2
        self.region_features = self.convolution(self.channels, name="region_features")
        self.region_logits = PointwiseConvolution(
            self.num_classes, name="region_logits", dtype=self.dtype_policy
        )
        self.pixels = self.convolution(self.channels, 3, name="pixels")
        self.queries = [self.convolution(half, name=f"query{i}") for i in range(2)]
        self.keys = [self.convolution(half, name=f"key{i}") for i in range(2)]
        self.value = self.convolution(half, name="value")
        self.expand = self.convolution(self.channels, name="expand")
        self.fusion = self.convolution(self.channels, name="fusion")
        regions = (shape[0], self.num_classes, 1, self.channels)
        halves = (*shape[:-1], half)
        for layer in (self.region_features, self.region_logits, self.pixels):
            layer.build(shape)
        self.queries[0].build(shape)
        self.queries[1].build(halves)
        for layer in (self.keys[0], self.value):
            layer.build(regions)
        self.keys[1].build((*regions[:-1], half))
        self.expand.build(halves)
        self.fusion.build((*shape[:-1], 2 * self.channels))

    def region_output(self):
        """Return the logits (B, H, W, K) of the regions, symbolic like `output`."""
        pyramid = dict(zip(self.given_levels, self.input, strict=True))
        shape = (*pyramid["P3"].shape[1:3], self.num_classes)
        return keras.layers.Lambda(self.regions, shape)(pyramid)

    def regions(self, pyramid, training=False):
        """Return the logits (B, H, W, K) of the soft object regions."""
        return self._regions(self.fuse(pyramid, training), training)

    def _regions(self, x, training):
        return self.region_logits(self.region_features(x, training=training))

    def add_context(self, x, training):
        regions = self._regions(x, training)
        x = self.pixels(x, training=training)
        regions = means_of_pixels(x, regions)[:, :, None]  # (B, K, 1, C)
        query, key = x, regions
        for to_query, to_key in zip(self.queries, self.keys, strict=True):
            query, key = (
                to_query(query, training=training),
                to_key(key, training=training),
            )
        key, value = key[:, :, 0], self.value(regions, training=training)[:, :, 0]
        scores = pixelwise_product(query, ops.swapaxes(key, 1, 2))  # (B, H, W, K)
        scores = ops.cast(scores, "float32") * query.shape[-1] ** -0.5
        weights = ops.cast(softmax(scores), value.dtype)
        context = self.expand(pixelwise_product(weights, value), training=training)
        return self.fusion(ops.concatenate([context, x], axis=-1), training=training)

    def attention_flops(self, input_shape):
        """Multiply-accumulates of the regions' means, the scores and their means."""
        batch, height, width, _ = input_shape["P3"]
        return batch * height * width * self.num_classes * 2 * self.channels

    def get_config(self):
        return {**super().get_config(), "num_classes": self.num_classes}
