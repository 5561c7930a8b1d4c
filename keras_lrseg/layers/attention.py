"""Low-Resolution Self-Attention (LRFormer, TPAMI 2025, section 3.2)."""

import keras
from keras import ops

from keras_lrseg.layers.arguments import as_integer
from keras_lrseg.layers.convolution import DepthwiseConvolution
from keras_lrseg.layers.heads import (
    check_heads,
    dot_product_attention,
    merge_heads,
    split_heads,
)
from keras_lrseg.layers.linear import linear
from keras_lrseg.layers.resampling import (
    adaptive_average_pools,
    aspect_grid,
    resize_bilinear,
    scaled_grid,
)

PYRAMID_SIZES = (11, 8, 6, 4)  # key/value grids beside 16 queries a side


@keras.saving.register_keras_serializable(package="keras_lrseg")
class LowResolutionSelfAttention(keras.layers.Layer):
    """Self-attention on a small grid of fixed size, whatever the size of the image.

    Queries come from the input pooled to about `pool_size`² cells, keys and values
    from a pyramid of four smaller grids, each followed by a residual depthwise 3×3
    convolution. The result returns to the input's size bilinearly. The grids follow
    the aspect ratio of the input: the shorter side gets `pool_size` cells.

    Args:
        num_heads: attention heads; divides the number of channels.
        pool_size: query cells along the shorter side (paper: 16; 7 for ImageNet, 32
            in the decoder).
        pyramid_convolutions: depthwise convolutions of the four pyramid levels. None:
            the layer makes its own. A list of four layers: they are shared, as all
            blocks of an LRFormer stage do; the layer that shares them makes them again
            when it is loaded, a file of this layer alone does not hold them. An empty
            list: no convolutions.
        epsilon: of the layer normalization of the pyramid.

    Input and output: (B, H, W, C), any H and W; a map smaller than the grid is pooled
    up, as the authors' code does (the paper says that pooling is skipped).

    Raises:
        ValueError: if `num_heads` does not divide C, `pool_size` is below 2, or the
            list has another length.

    Reference: LRFormer, section 3.2, equations (1)-(3). The scale is that of the
    head's width (the paper writes the whole width).
    """

    def __init__(
        self,
        num_heads,
        pool_size=16,
        pyramid_convolutions=None,
        epsilon=1e-5,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.pool_size = as_integer(pool_size)
        if self.pool_size is None or self.pool_size < 2:
            raise ValueError(
                f"pool_size expects an integer from 2. Received: {pool_size!r}"
            )
        self.epsilon = epsilon
        if pyramid_convolutions is None:
            pyramid_convolutions = make_pyramid_convolutions(dtype=self.dtype_policy)
        if len(pyramid_convolutions) not in (0, len(PYRAMID_SIZES)):
            raise ValueError(
                f"pyramid_convolutions expects {len(PYRAMID_SIZES)} layers or none. "
                f"Received: {len(pyramid_convolutions)}"
            )
        self.pyramid_convolutions = list(pyramid_convolutions)

    def build(self, input_shape):
        channels = input_shape[-1]
        check_heads(channels, self.num_heads)
        dtype = {"dtype": self.dtype_policy}
        self.query = linear(channels, name="query", **dtype)
        self.norm = keras.layers.LayerNormalization(
            epsilon=self.epsilon, name="norm", **dtype
        )
        self.key_value = linear(2 * channels, name="key_value", **dtype)
        self.projection = linear(channels, name="projection", **dtype)
        grid_shape = (input_shape[0], None, None, channels)
        tokens_shape = (input_shape[0], None, channels)
        for convolution in self.pyramid_convolutions:
            if not convolution.built:
                convolution.build(grid_shape)
        self.query.build(tokens_shape)
        self.norm.build(tokens_shape)
        self.key_value.build(tokens_shape)
        self.projection.build(tokens_shape)

    def grids(self, height, width):
        """The query grid and the four key/value grids, each (rows, columns)."""
        sizes = [scaled_grid(size, self.pool_size) for size in PYRAMID_SIZES]
        return [aspect_grid(size, height, width) for size in (self.pool_size, *sizes)]

    def call(self, x):
        _, height, width, channels = ops.shape(x)
        grids = self.grids(height, width)
        queries, *levels = adaptive_average_pools(x, grids)
        if self.pyramid_convolutions:
            convolutions = zip(self.pyramid_convolutions, levels, strict=True)
            levels = [convolution(level) for convolution, level in convolutions]
        tokens = [
            ops.reshape(level, (-1, n, channels))
            for level, n in zip(
                levels, (rows * columns for rows, columns in grids[1:]), strict=True
            )
        ]
        tokens = self.norm(ops.concatenate(tokens, axis=1))  # (B, Nk, C)
        rows, columns = grids[0]
        queries = ops.reshape(queries, (-1, rows * columns, channels))  # (B, Nq, C)
        keys, values = ops.split(self.key_value(tokens), 2, axis=-1)
        x = self._attend(self.query(queries), keys, values)
        x = ops.reshape(self.projection(x), (-1, rows, columns, channels))
        return resize_bilinear(x, (height, width))

    def _attend(self, queries, keys, values):
        heads = (split_heads(x, self.num_heads) for x in (queries, keys, values))
        return merge_heads(dot_product_attention(*heads), ops.shape(queries)[1])

    def compute_output_shape(self, input_shape):
        return input_shape

    def attention_flops(self, input_shape):
        """Multiply-accumulates of the two attention products."""
        batch, height, width, channels = input_shape
        (rows, columns), *levels = self.grids(height, width)
        keys = sum(r * c for r, c in levels)
        return 2 * batch * rows * columns * keys * channels

    def get_config(self):
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "pool_size": self.pool_size,
            "pyramid_convolutions": [
                keras.saving.serialize_keras_object(layer)
                for layer in self.pyramid_convolutions
            ],
            "epsilon": self.epsilon,
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        config["pyramid_convolutions"] = [
            keras.saving.deserialize_keras_object(layer)
            for layer in config["pyramid_convolutions"]
        ]
        return cls(**config)


def make_pyramid_convolutions(dtype=None):
    """Return the residual depthwise convolutions of the key/value pyramid, unbuilt."""
    return [
        DepthwiseConvolution(residual=True, name=f"pyramid{level}", dtype=dtype)
        for level in range(len(PYRAMID_SIZES))
    ]
