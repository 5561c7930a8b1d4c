"""Multi-scale convolutional attention, the block of SegNeXt's backbone."""

import keras
from keras import ops

from keras_lrseg.layers.activation import gelu
from keras_lrseg.layers.convolution import (
    DepthwiseConvolution,
    PointwiseConvolution,
    kaiming_normal,
)
from keras_lrseg.layers.mix_transformer import MixFeedForward
from keras_lrseg.layers.normalization import batch_norm
from keras_lrseg.layers.regularization import DropPath, LayerScale

STRIPS = (7, 11, 21)  # lengths of the strip convolutions, Figure 2(b)


@keras.saving.register_keras_serializable(package="keras_lrseg")
class MultiScaleConvolutionalAttention(keras.layers.Layer):
    """Weigh each position by what depthwise strips of several lengths see around it.

    With v = GELU(W1 · x) and u = DW5×5(v), all convolutions biased:

        attention = W2 · (u + Σ_k DWk×1(DW1×k(u))), k = 7, 11, 21
        y = x + W3 · (attention ⊗ v)

    Input and output: (B, H, W, C).

    Reference: Guo et al., "SegNeXt", NeurIPS 2022, Figure 2, equations (1) and (2).
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.local = self._depthwise(5, "local")
        # Two plain lists: Keras 3.12 does not save the weights of lists in lists.
        self.rows = [self._depthwise((1, size), f"row{size}") for size in STRIPS]
        self.columns = [self._depthwise((size, 1), f"column{size}") for size in STRIPS]

    def _depthwise(self, kernel_size, name):
        return DepthwiseConvolution(
            kernel_size,
            kernel_initializer=kaiming_normal(),
            name=name,
            dtype=self.dtype_policy,
        )

    def _pointwise(self, channels, name, activation=None):
        return PointwiseConvolution(
            channels,
            activation=activation,
            kernel_initializer=kaiming_normal(),
            name=name,
            dtype=self.dtype_policy,
        )

    def build(self, input_shape):
        self.project_in = self._pointwise(input_shape[-1], "project_in", gelu)
        self.mix = self._pointwise(input_shape[-1], "mix")
        self.project_out = self._pointwise(input_shape[-1], "project_out")
        depthwise = (self.local, *self.rows, *self.columns)
        for layer in (self.project_in, *depthwise, self.mix, self.project_out):
            layer.build(input_shape)

    def call(self, x):
        return x + self.project_out(self.attend(self.project_in(x)))

    def attend(self, values):
        """Weigh v by the attention that is made of it."""
        near = self.local(values)
        around = near
        for row, column in zip(self.rows, self.columns, strict=True):
            around = around + column(row(near))
        return self.mix(around) * values

    def compute_output_shape(self, input_shape):
        return input_shape


@keras.saving.register_keras_serializable(package="keras_lrseg")
class MSCABlock(keras.layers.Layer):
    """The block of MSCAN: multi-scale convolutional attention and a feed-forward.

        x = x + drop_path(scale · MSCA(norm(x)))
        x = x + drop_path(scale · FFN(norm(x)))

    The norms are batch norms, the feed-forward is SegFormer's.

    Args:
        expansion_ratio: of `MixFeedForward`.
        drop_path_rate: probability of dropping a branch in training.
        layer_scale: initial value of both scales.

    Input and output: (B, H, W, C).

    Reference: SegNeXt, Figure 2(a).
    """

    def __init__(
        self, expansion_ratio=4, drop_path_rate=0.0, layer_scale=1e-2, **kwargs
    ):
        super().__init__(**kwargs)
        self.expansion_ratio = expansion_ratio
        self.drop_path_rate = drop_path_rate
        self.layer_scale = layer_scale
        dtype = {"dtype": self.dtype_policy}
        self.norms = [batch_norm(name=f"norm{i}", **dtype) for i in (1, 2)]
        self.scales = [
            LayerScale(layer_scale, name=f"scale{i}", **dtype) for i in (1, 2)
        ]
        self.branches = [
            MultiScaleConvolutionalAttention(name="attention", **dtype),
            MixFeedForward(expansion_ratio, name="feed_forward", **dtype),
        ]
        self.drop_path = DropPath(drop_path_rate, name="drop_path", **dtype)

    def build(self, input_shape):
        for layer in (*self.norms, *self.branches, *self.scales, self.drop_path):
            layer.build(input_shape)

    def call(self, x, training=False):
        parts = zip(self.norms, self.branches, self.scales, strict=True)
        for norm, branch, scale in parts:
            y = scale(branch(norm(x, training=training)))
            x = x + self.drop_path(y, training=training)
        return x

    def infer(self, x, training=False):
        """What `call` gives in inference, with the norms inside the 1×1 convolutions.

        The attention's residual is of the normalised x, a · x + b, so the block's first
        residual is (1 + scale · a) · x. The exporter puts this in place of `call`: the
        products of weights are constants in its graph.
        """
        attention, feed_forward = self.branches
        scale = ops.convert_to_tensor(self.scales[0].scale)
        gain, shift = self.norms[0].inference_map()
        y = attention.attend(_of_normalized(attention.project_in, gain, shift, x))
        project = attention.project_out
        y = project.convolve(y, scale * project.kernel, scale * (project.bias + shift))
        x = (1 + scale * gain) * x + y
        norm = self.norms[1].inference_map()
        y = feed_forward.finish(_of_normalized(feed_forward.expand, *norm, x))
        return x + self.scales[1](y)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "expansion_ratio": self.expansion_ratio,
            "drop_path_rate": self.drop_path_rate,
            "layer_scale": self.layer_scale,
        }


def _of_normalized(pointwise, gain, shift, x):
    """A 1×1 convolution of `gain · x + shift`, computed as one of x."""
    kernel = ops.convert_to_tensor(pointwise.kernel)
    # A product of matrices: TFLite's converter folds no other.
    bias = pointwise.bias + ops.matmul(shift[None], kernel)[0]
    return pointwise.convolve(x, gain[:, None] * kernel, bias)
