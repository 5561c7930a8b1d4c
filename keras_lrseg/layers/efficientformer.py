"""Attention and blocks of EfficientFormerV2 (Li et al., ICCV 2023, section 3).

Every convolution has a bias, also in front of a batch normalization; GELUs are exact.
"""

import keras
from keras import ops

from keras_lrseg.layers.activation import gelu
from keras_lrseg.layers.attention_bias import attention_bias
from keras_lrseg.layers.convolution import DepthwiseConvolution, PointwiseConvolution
from keras_lrseg.layers.convolution_norm import ConvolutionNorm
from keras_lrseg.layers.heads import merge_heads, split_heads
from keras_lrseg.layers.regularization import DropPath, LayerScale
from keras_lrseg.layers.resampling import resize_bilinear
from keras_lrseg.layers.softmax import softmax


class _BiasedAttention(keras.layers.Layer):
    """What both attentions share.

        y = softmax(q·kᵀ/√d + bias)·v + BN(dw3×3(v)); output = BN(1×1(GELU(y)))

    k and v are BN(1×1(x)). The bias depends on the distance between query and key.
    """

    def __init__(
        self, resolution, num_heads=8, key_channels=32, value_channels=128, **kwargs
    ):
        super().__init__(**kwargs)
        self.resolution = resolution
        self.num_heads = num_heads
        self.key_channels = key_channels
        self.value_channels = value_channels

    def _convolution(self, name, filters, kernel_size=1, strides=1):
        return ConvolutionNorm(
            filters,
            kernel_size,
            strides,
            use_bias=True,
            name=name,
            dtype=self.dtype_policy,
        )

    def _build_attention(self, input_shape, filters, table_size, strides):
        """Make the layers.

        Args:
            input_shape: of x, the map that keys and values are made of.
            filters: of the output.
            table_size: side of the square map of keys that the biases are for.
            strides: keys for one query along each axis.
        """
        self.table_size = table_size
        self.query_strides = strides
        width = self.num_heads * self.value_channels
        values_shape = (*input_shape[:-1], width)
        self.query = self._convolution("query", self.num_heads * self.key_channels)
        self.key = self._convolution("key", self.num_heads * self.key_channels)
        self.value = self._convolution("value", width)
        self.local = self._convolution("local", None, 3, strides)
        self.projection = self._convolution("projection", filters)
        for layer in (self.query, self.key, self.value):
            layer.build(input_shape)
        for layer in (self.local, self.projection):
            layer.build(values_shape)
        self.attention_bias = self.add_weight(
            name="attention_bias",
            shape=(self.num_heads, table_size**2),
            initializer="zeros",
        )

    def _attend(self, queries, x, training):
        """Attend from a map of queries to the map x."""
        _, rows, columns, _ = ops.shape(queries)
        keys = self.key(x, training=training)
        values = self.value(x, training=training)
        y = self.local(values, training=training)

        queries = split_heads(queries * self.key_channels**-0.5, self.num_heads)
        keys = ops.swapaxes(split_heads(keys, self.num_heads), 2, 3)  # (B, h, d, Nk)
        values = split_heads(values, self.num_heads)
        scores = ops.matmul(queries, keys)  # (B, heads, Nq, Nk)
        scores = scores + attention_bias(
            ops.convert_to_tensor(self.attention_bias),
            self.table_size,
            self.query_strides,
            *ops.shape(scores)[2:],
        )
        z = ops.matmul(self._weights(scores), values)  # (B, heads, Nq, d)
        return y + merge_heads(z, rows, columns)

    def _weights(self, scores):
        return softmax(scores)

    def _flops(self, queries_shape, keys_shape):
        """Multiply-accumulates of q·kᵀ and of the product with v."""
        batch, rows, columns, _ = queries_shape
        queries, keys = rows * columns, keys_shape[1] * keys_shape[2]
        channels = self.key_channels + self.value_channels
        return batch * queries * keys * self.num_heads * channels

    def get_config(self):
        return {
            **super().get_config(),
            "resolution": self.resolution,
            "num_heads": self.num_heads,
            "key_channels": self.key_channels,
            "value_channels": self.value_channels,
        }


@keras.saving.register_keras_serializable(package="keras_lrseg")
class TalkingHeadAttention(_BiasedAttention):
    """Self-attention with talking heads, on the whole map or on one halved.

    With `strides=2` a depthwise convolution and batch norm halve the map first, and the
    result is resized bilinearly to the input's size, odd or even. The attention maps
    of all heads are mixed in front of the softmax and behind it (Shazeer et al., 2020).

    Args:
        resolution: side of the square input that the bias table is learnt for; at other
            sizes the biases are resized bicubically.
        strides: 1 or 2.
        num_heads: attention heads.
        key_channels, value_channels: of each head.

    Input and output: (B, H, W, C).

    Reference: EfficientFormerV2, "MHSA improvements" and "Attention on higher
    resolution".
    """

    def __init__(self, resolution, strides=1, **kwargs):
        super().__init__(resolution, **kwargs)
        self.strides = strides

    def build(self, input_shape):
        channels = input_shape[-1]
        self.reduction = None
        if self.strides > 1:
            self.reduction = self._convolution("reduction", None, 3, self.strides)
            self.reduction.build(input_shape)
            input_shape = self.reduction.compute_output_shape(input_shape)
        table_size = -(-self.resolution // self.strides)
        self._build_attention(input_shape, channels, table_size, strides=1)
        # The first needs no bias: the softmax takes away what all keys have in common.
        self.talking_heads = [
            _TalkingHeads(
                self.num_heads,
                use_bias=use_bias,
                name=f"talking_heads{i}",
                dtype=self.dtype_policy,
            )
            for i, use_bias in ((1, False), (2, True))
        ]
        for layer in self.talking_heads:
            layer.build((None, self.num_heads, None, None))

    def call(self, x, training=False):
        size = ops.shape(x)[1:3]
        if self.reduction is not None:
            x = self.reduction(x, training=training)
        x = self._attend(self.query(x, training=training), x, training)
        if self.reduction is not None:
            x = resize_bilinear(x, size)
        return self.projection(gelu(x), training=training)

    def _weights(self, scores):
        before, after = self.talking_heads
        return after(super()._weights(before(scores)))

    def compute_output_shape(self, input_shape):
        return input_shape

    def attention_flops(self, input_shape):
        """Multiply-accumulates of the two attention products."""
        if self.reduction is not None:
            input_shape = self.reduction.compute_output_shape(input_shape)
        return self._flops(input_shape, input_shape)

    def get_config(self):
        return {**super().get_config(), "strides": self.strides}


@keras.saving.register_keras_serializable(package="keras_lrseg")
class AttentionDownsampling(_BiasedAttention):
    """Halve a map by attention and a convolution, added up.

    The convolution is 3×3 of stride 2 with batch norm. The queries are
    BN(1×1(dw3×3 of stride 2(x) + every second pixel of x)), the keys all pixels of x.

    Args:
        filters: output channels.
        resolution: side of the square input that the bias table is learnt for; at other
            sizes the biases are resized bicubically.
        num_heads: attention heads.
        key_channels, value_channels: of each head.

    Input: (B, H, W, C). Output: (B, ceil(H/2), ceil(W/2), filters).

    Reference: EfficientFormerV2, "Attention downsampling".
    """

    def __init__(
        self,
        filters,
        resolution,
        num_heads=8,
        key_channels=16,
        value_channels=64,
        **kwargs,
    ):
        super().__init__(resolution, num_heads, key_channels, value_channels, **kwargs)
        self.filters = filters

    def build(self, input_shape):
        self.convolution = self._convolution("convolution", self.filters, 3, 2)
        self.query_local = DepthwiseConvolution(
            3, 2, residual=True, name="query_local", dtype=self.dtype_policy
        )
        for layer in (self.convolution, self.query_local):
            layer.build(input_shape)
        self._build_attention(input_shape, self.filters, self.resolution, strides=2)

    def call(self, x, training=False):
        queries = self.query(self.query_local(x), training=training)
        y = self._attend(queries, x, training)
        y = self.projection(gelu(y), training=training)
        return y + self.convolution(x, training=training)

    def compute_output_shape(self, input_shape):
        batch, *size, _ = input_shape
        size = (None if n is None else -(-n // 2) for n in size)
        return (batch, *size, self.filters)

    def attention_flops(self, input_shape):
        """Multiply-accumulates of the two attention products."""
        return self._flops(self.compute_output_shape(input_shape), input_shape)

    def get_config(self):
        return {**super().get_config(), "filters": self.filters}


class _TalkingHeads(PointwiseConvolution):
    """1×1 convolution over the heads of attention maps (B, heads, Nq, Nk)."""

    def build(self, input_shape):
        super().build((None, input_shape[1]))
        self.input_spec = None

    def call(self, x, training=None):
        _, heads, queries, keys = ops.shape(x)
        kernel = ops.transpose(ops.convert_to_tensor(self.kernel))
        x = ops.reshape(x, (-1, heads, queries * keys))
        x = ops.matmul(kernel, x)  # (B, heads, Nq*Nk)
        if self.bias is not None:
            x = x + ops.convert_to_tensor(self.bias)[:, None]
        return ops.reshape(x, (-1, heads, queries, keys))


@keras.saving.register_keras_serializable(package="keras_lrseg")
class EfficientFormerFeedForward(keras.layers.Layer):
    """BN(1×1(GELU(BN(dw3×3(GELU(BN(1×1(x)))))))).

    Args:
        expansion_ratio: hidden channels divided by those of x.

    Input and output: (B, H, W, C).

    Reference: EfficientFormerV2, section 3.1, the unified feed-forward.
    """

    def __init__(self, expansion_ratio=4, **kwargs):
        super().__init__(**kwargs)
        self.expansion_ratio = expansion_ratio

    def build(self, input_shape):
        channels = input_shape[-1]
        hidden = int(channels * self.expansion_ratio)
        settings = {"use_bias": True, "dtype": self.dtype_policy}
        self.expand = ConvolutionNorm(
            hidden, activation=gelu, name="expand", **settings
        )
        self.convolution = ConvolutionNorm(
            None, 3, activation=gelu, name="convolution", **settings
        )
        self.contract = ConvolutionNorm(channels, name="contract", **settings)
        self.expand.build(input_shape)
        for layer in (self.convolution, self.contract):
            layer.build((*input_shape[:-1], hidden))

    def call(self, x, training=False):
        x = self.convolution(self.expand(x, training=training), training=training)
        return self.contract(x, training=training)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "expansion_ratio": self.expansion_ratio}


@keras.saving.register_keras_serializable(package="keras_lrseg")
class EfficientFormerBlock(keras.layers.Layer):
    """Attention, in the later blocks of the network, and a feed-forward.

        x = x + drop_path(scale · attention(x))
        x = x + drop_path(scale · FFN(x))

    Args:
        expansion_ratio: of `EfficientFormerFeedForward`.
        resolution: of `TalkingHeadAttention`; None for a block without attention.
        strides: of the attention.
        drop_path_rate: probability of dropping a branch in training.
        layer_scale: initial value of the layer scales.

    Input and output: (B, H, W, C).
    """

    def __init__(
        self,
        expansion_ratio=4,
        resolution=None,
        strides=1,
        drop_path_rate=0.0,
        layer_scale=1e-5,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.expansion_ratio = expansion_ratio
        self.resolution = resolution
        self.strides = strides
        self.drop_path_rate = drop_path_rate
        self.layer_scale = layer_scale
        dtype = {"dtype": self.dtype_policy}
        branches = [
            EfficientFormerFeedForward(expansion_ratio, name="feed_forward", **dtype)
        ]
        if resolution is not None:
            attention = TalkingHeadAttention(
                resolution, strides, name="attention", **dtype
            )
            branches.insert(0, attention)
        self.branches = branches
        self.scales = [
            LayerScale(layer_scale, name=f"{branch.name}_scale", **dtype)
            for branch in self.branches
        ]
        self.drop_path = DropPath(drop_path_rate, name="drop_path", **dtype)

    def build(self, input_shape):
        for layer in (*self.branches, *self.scales, self.drop_path):
            layer.build(input_shape)

    def call(self, x, training=False):
        for branch, scale in zip(self.branches, self.scales, strict=True):
            y = scale(branch(x, training=training))
            x = x + self.drop_path(y, training=training)
        return x

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "expansion_ratio": self.expansion_ratio,
            "resolution": self.resolution,
            "strides": self.strides,
            "drop_path_rate": self.drop_path_rate,
            "layer_scale": self.layer_scale,
        }
