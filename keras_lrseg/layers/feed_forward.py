"""The convolutional feed-forward of LRFormer (TPAMI 2025, section 3.3)."""

import keras

from keras_lrseg.layers.activation import gelu
from keras_lrseg.layers.convolution import DepthwiseConvolution, PointwiseConvolution


@keras.saving.register_keras_serializable(package="keras_lrseg")
class ConvolutionalFeedForward(keras.layers.Layer):
    """1×1 convolution, GELU, residual depthwise 3×3, 1×1 convolution.

    `y = W2 · (h + DW3×3(h))` with `h = GELU(W1 · x)`; exact GELU, all maps biased, no
    activation behind the depthwise convolution.

    Args:
        expansion_ratio: width of h divided by the channels of x.
        depthwise: False leaves the depthwise convolution out (Table 9).

    Input and output: (B, H, W, C).
    """

    def __init__(self, expansion_ratio=4, depthwise=True, **kwargs):
        super().__init__(**kwargs)
        self.expansion_ratio = expansion_ratio
        self.depthwise = depthwise

    def build(self, input_shape):
        channels = input_shape[-1]
        hidden_shape = (*input_shape[:-1], int(channels * self.expansion_ratio))
        self.expand = PointwiseConvolution(
            hidden_shape[-1], activation=gelu, name="expand", dtype=self.dtype_policy
        )
        self.expand.build(input_shape)
        if self.depthwise:
            self.convolution = DepthwiseConvolution(
                residual=True, name="convolution", dtype=self.dtype_policy
            )
            self.convolution.build(hidden_shape)
        self.contract = PointwiseConvolution(
            channels, name="contract", dtype=self.dtype_policy
        )
        self.contract.build(hidden_shape)

    def call(self, x):
        x = self.expand(x)
        if self.depthwise:
            x = self.convolution(x)
        return self.contract(x)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "expansion_ratio": self.expansion_ratio,
            "depthwise": self.depthwise,
        }
