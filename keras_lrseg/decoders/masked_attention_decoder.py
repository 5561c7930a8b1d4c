"""Mask2Former's decoder: queries that become masks (CVPR 2022, section 3.2)."""

import keras
from keras import ops

from keras_lrseg.decoders.deformable_pixel_decoder import flatten
from keras_lrseg.layers import (
    MaskOffsetLearning,
    PointwiseConvolution,
    resize_bilinear,
)
from keras_lrseg.layers.arguments import as_integer
from keras_lrseg.layers.convolution import pixelwise_product
from keras_lrseg.layers.heads import (
    check_heads,
    dot_product_attention,
    merge_heads,
    split_heads,
)
from keras_lrseg.layers.position_embedding import sine_embedding

SCALES = 3  # maps that the layers attend to in turn


@keras.saving.register_keras_serializable(package="keras_lrseg")
class MaskedAttentionDecoder(keras.layers.Layer):
    """Classify a fixed number of queries and draw a mask for each.

    Learnt queries attend to the pixels of three maps in turn, each where it predicts
    its own mask so far, then to one another. A prediction is made of the queries before
    the first layer and after each: class logits by a linear map, mask logits as the
    product of the mask features with a mask embedding.

    Args:
        num_classes: K, without the class "no object", which comes last.
        num_queries: Q, the most masks of an image.
        depth: number of layers, 9 in the paper.
        num_heads: attention heads; divides the number of channels.
        hidden_channels: of the feed-forwards.
        offset: let `MaskOffsetLearning`, one for all predictions, align mask embeddings
            and mask features. Patent notice: the authors of OffSeg permit
            non-commercial use of it only.

    Inputs: `[mask_features, p5, p4, p3]`, (B, H, W, C) each, of any sizes, as
    `DeformablePixelDecoder` gives them.
    Output: list of `depth` + 1 predictions `[class_logits, mask_logits]`, (B, Q, K + 1)
    and (B, H, W, Q) of the mask features' size. The last is the result, all are for
    deep supervision.

    Raises:
        ValueError: if there is no class or query, there are not three maps, the inputs
            differ in C, or `num_heads` does not divide it.

    Reference: Mask2Former, sections 3.2.1 and 3.2.2, equations (1)-(3).
    """

    def __init__(
        self,
        num_classes,
        num_queries=100,
        depth=9,
        num_heads=8,
        hidden_channels=2048,
        offset=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if min(as_integer(n) or 0 for n in (num_classes, num_queries)) < 1:
            raise ValueError(
                "MaskedAttentionDecoder expects one class or more, and one query or "
                f"more. Received: num_classes={num_classes}, num_queries={num_queries}"
            )
        self.num_classes = num_classes = as_integer(num_classes)
        self.num_queries = as_integer(num_queries)
        self.depth = depth
        self.num_heads = num_heads
        self.hidden_channels = hidden_channels
        self.offset = offset
        dtype = {"dtype": self.dtype_policy}
        self.blocks = [
            MaskedAttentionLayer(num_heads, hidden_channels, name=f"block{i}", **dtype)
            for i in range(depth)
        ]
        self.head = MaskHead(num_classes, offset, name="head", **dtype)

    def build(self, input_shape):
        widths = [shape[-1] for shape in input_shape]
        if len(widths) != 1 + SCALES or len({*widths}) > 1:
            raise ValueError(
                "MaskedAttentionDecoder expects mask features and three maps with as "
                f"many channels each. Received inputs with channels: {widths}"
            )
        channels = widths[0]
        self.query_features, self.query_embeddings, self.level_embeddings = (
            self.add_weight(
                name=name,
                shape=(n, channels),
                initializer=keras.initializers.RandomNormal(stddev=1.0),
            )
            for name, n in (
                ("query_features", self.num_queries),
                ("query_embeddings", self.num_queries),
                ("level_embeddings", SCALES),
            )
        )
        queries = (None, self.num_queries, channels)
        pixels = (None, None, channels)
        mask = (None, self.num_queries, None)
        for block in self.blocks:
            block.build([queries, queries, pixels, pixels, mask])
        self.head.build([queries, input_shape[0]])

    def call(self, inputs):
        mask_features, *maps = inputs
        sizes = [ops.shape(x)[1:3] for x in maps]
        levels = ops.convert_to_tensor(self.level_embeddings)
        values = [flatten([x]) + levels[i] for i, x in enumerate(maps)]  # (B, N, C)
        keys = [
            x + ops.cast(flatten([sine_embedding(size, x.shape[-1])]), x.dtype)
            for x, size in zip(values, sizes, strict=True)
        ]
        embeddings = ops.convert_to_tensor(self.query_embeddings)[None]
        queries = ops.convert_to_tensor(self.query_features)[None]
        queries = queries + ops.zeros_like(mask_features[:, :1, 0])  # (B, Q, C)
        predictions = [self.head([queries, mask_features])]
        for i, block in enumerate(self.blocks):
            level = i % SCALES
            mask = where_predicted(predictions[-1][1], sizes[level])
            queries = block([queries, embeddings, keys[level], values[level], mask])
            predictions.append(self.head([queries, mask_features]))
        return predictions

    def compute_output_shape(self, input_shape):
        queries = (input_shape[0][0], self.num_queries, None)
        prediction = self.head.compute_output_shape([queries, input_shape[0]])
        return [prediction] * (self.depth + 1)

    def get_config(self):
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "num_queries": self.num_queries,
            "depth": self.depth,
            "num_heads": self.num_heads,
            "hidden_channels": self.hidden_channels,
            "offset": self.offset,
        }


@keras.saving.register_keras_serializable(package="keras_lrseg")
class MaskHead(keras.layers.Layer):
    """Class logits and a mask of each query.

    A layer norm; a linear map to the classes; three, with ReLU between, to the mask
    embedding, whose product with the features of a pixel is the mask's logit there.

    Args:
        num_classes: K, without the class "no object".
        offset: align embeddings and features by `MaskOffsetLearning` in front of the
            product.

    Inputs: `[queries, mask_features]`, (B, Q, C) and (B, H, W, C).
    Outputs: `[class_logits, mask_logits]`, (B, Q, K + 1) and (B, H, W, Q).

    Reference: MaskFormer (NeurIPS 2021), section 3.3; OffSeg, Table 5.
    """

    def __init__(self, num_classes, offset=False, **kwargs):
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.offset = offset

    def build(self, input_shape):
        queries, features = input_shape
        dtype = {"dtype": self.dtype_policy}
        self.norm = keras.layers.LayerNormalization(epsilon=1e-5, name="norm", **dtype)
        self.classifier = PointwiseConvolution(
            self.num_classes + 1, name="classifier", **dtype
        )
        self.embeddings = [
            PointwiseConvolution(
                queries[-1],
                activation="relu" if i < 2 else None,
                name=f"embedding{i}",
                **dtype,
            )
            for i in range(3)
        ]
        for layer in (self.norm, self.classifier, *self.embeddings):
            layer.build(queries)
        if self.offset:
            self.offset_learning = MaskOffsetLearning(name="offset_learning", **dtype)
            self.offset_learning.build([queries, features])

    def call(self, inputs):
        queries, features = inputs
        queries = self.norm(queries)
        embeddings = queries
        for layer in self.embeddings:
            embeddings = layer(embeddings)
        if self.offset:
            embeddings, features = self.offset_learning([embeddings, features])
        masks = pixelwise_product(features, ops.swapaxes(embeddings, 1, 2))
        return [self.classifier(queries), masks]

    def compute_output_shape(self, input_shape):
        queries, features = input_shape
        return [
            (*queries[:2], self.num_classes + 1),
            (*features[:3], queries[1]),
        ]

    def attention_flops(self, input_shape):
        """Multiply-accumulates of the masks."""
        (_, queries, _), features = input_shape
        batch, height, width, channels = features
        return batch * height * width * channels * queries

    def get_config(self):
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "offset": self.offset,
        }


@keras.saving.register_keras_serializable(package="keras_lrseg")
class MaskedAttentionLayer(keras.layers.Layer):
    """Attention to the pixels of a mask, to the other queries, and a feed-forward.

    A layer norm follows each residual. The learnt embeddings of the queries are added
    wherever queries or keys, not values, are made of them.

    Args:
        num_heads: attention heads; divides the number of channels.
        hidden_channels: of the feed-forward, whose activation is ReLU.

    Inputs: `[queries, embeddings, keys, values, mask]`: (B, Q, C); (1, Q, C); (B, N, C)
    twice; boolean (B, Q, N), true where a query may look.
    Output: (B, Q, C).

    Reference: Mask2Former, section 3.2.1 and Figure 2.
    """

    def __init__(self, num_heads, hidden_channels, **kwargs):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.hidden_channels = hidden_channels

    def build(self, input_shape):
        queries, _, keys, values, mask = input_shape
        dtype = {"dtype": self.dtype_policy}
        settings = {"kernel_initializer": "glorot_uniform", **dtype}
        self.cross_attention, self.self_attention = (
            MultiHeadAttention(self.num_heads, name=name, **dtype)
            for name in ("cross_attention", "self_attention")
        )
        self.cross_attention.build([queries, keys, values, mask])
        self.self_attention.build([queries] * 3)
        self.expand = PointwiseConvolution(
            self.hidden_channels, activation="relu", name="expand", **settings
        )
        self.contract = PointwiseConvolution(queries[-1], name="contract", **settings)
        self.norms = [
            keras.layers.LayerNormalization(epsilon=1e-5, name=f"norm{i}", **dtype)
            for i in range(3)
        ]
        for layer in (*self.norms, self.expand):
            layer.build(queries)
        self.contract.build((*queries[:-1], self.hidden_channels))

    def call(self, inputs):
        x, embeddings, keys, values, mask = inputs
        x = self.norms[0](
            x + self.cross_attention([x + embeddings, keys, values, mask])
        )
        x = self.norms[1](x + self.self_attention([x + embeddings, x + embeddings, x]))
        return self.norms[2](x + self.contract(self.expand(x)))

    def compute_output_shape(self, input_shape):
        return input_shape[0]

    def get_config(self):
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "hidden_channels": self.hidden_channels,
        }


@keras.saving.register_keras_serializable(package="keras_lrseg")
class MultiHeadAttention(keras.layers.Layer):
    """Attention with four linear maps, the softmax in float32 whatever the policy.

    Args:
        num_heads: attention heads; divides the number of channels.

    Inputs: `[queries, keys, values]` and optionally a boolean mask: (B, Q, C), (B, N,
    C) twice, (B, Q, N), true where a query may look.
    Output: (B, Q, C).

    Raises:
        ValueError: if `num_heads` does not divide C.

    Reference: Attention Is All You Need (NeurIPS 2017), section 3.2.2.
    """

    def __init__(self, num_heads, **kwargs):
        super().__init__(**kwargs)
        self.num_heads = num_heads

    def build(self, input_shape):
        channels = input_shape[0][-1]
        check_heads(channels, self.num_heads)
        self.query, self.key, self.value, self.projection = (
            PointwiseConvolution(
                channels,
                kernel_initializer="glorot_uniform",
                name=name,
                dtype=self.dtype_policy,
            )
            for name in ("query", "key", "value", "projection")
        )
        for layer, shape in zip(
            (self.query, self.key, self.value), input_shape, strict=False
        ):
            layer.build(shape)
        self.projection.build(input_shape[0])

    def call(self, inputs):
        queries, keys, values, *mask = inputs
        x = dot_product_attention(
            split_heads(self.query(queries), self.num_heads),
            split_heads(self.key(keys), self.num_heads),
            split_heads(self.value(values), self.num_heads),
            mask[0][:, None] if mask else None,
        )
        return self.projection(merge_heads(x, ops.shape(queries)[1]))

    def compute_output_shape(self, input_shape):
        return input_shape[0]

    def attention_flops(self, input_shape):
        """Multiply-accumulates of the two attention products."""
        (batch, queries, channels), (_, keys, _), *_ = input_shape
        return 2 * batch * queries * keys * channels

    def get_config(self):
        return {**super().get_config(), "num_heads": self.num_heads}


def where_predicted(masks, size):
    """Where queries may look: at the pixels of their mask, or if it has none at all.

    Args:
        masks: logits (B, H, W, Q).
        size: (height, width) of the map that is looked at.

    Returns:
        Boolean (B, Q, height·width), without a gradient.
    """
    masks = flatten([resize_bilinear(ops.stop_gradient(masks), size)])  # (B, N, Q)
    inside = masks >= 0  # where the probability is not below one half
    inside = ops.logical_or(
        inside, ops.logical_not(ops.any(inside, axis=1, keepdims=True))
    )
    return ops.swapaxes(inside, 1, 2)
