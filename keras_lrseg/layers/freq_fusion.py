"""Frequency-aware fusion of two levels of a pyramid (FreqFusion, TPAMI 2024)."""

import keras

from keras_lrseg.layers.carafe import carafe
from keras_lrseg.layers.convolution import PointwiseConvolution, SymmetricConv2D
from keras_lrseg.layers.similarity_resampler import SimilarityGuidedResampler
from keras_lrseg.layers.softmax import softmax

HIGH_PASS, LOW_PASS = 3, 5  # sides of the adaptive kernels


@keras.saving.register_keras_serializable(package="keras_lrseg")
class FreqFusion(keras.layers.Layer):
    """Prepare a high- and a low-resolution map for fusion, by adaptive filters.

    Each pixel gets a low-pass kernel, which enlarges the low-resolution map without
    blur over the borders of objects, and a high-pass kernel, which sharpens the
    high-resolution map. The enlarged map is then resampled where neighbours are alike.

    Inputs: `[high, low]`, (B, H, W, C) and (B, h, w, D), with h = ceil(H/2) and w =
    ceil(W/2). For an odd H, which the authors' code does not know, the enlarged map of
    2·h rows loses its last one. D and C + D are multiples of 4, C + D at least 32.
    Outputs: `[high, low]`, (B, H, W, C) and (B, H, W, D).

    Convolutions start from Xavier's uniform distribution, those that predict kernels
    from a normal one (0.001), as the authors train it.

    Raises:
        ValueError: if a width or the sizes do not fit.

    Reference: Frequency-aware Feature Fusion for Dense Image Prediction (Chen et al.,
    TPAMI 2024), with the sizes and the order of OffSeg's code.
    """

    def build(self, input_shape):
        high, low = input_shape
        check_sizes(high, low)
        if (high[-1] + low[-1]) % 4:
            raise ValueError(
                "FreqFusion expects maps whose channels sum up to a multiple of 4. "
                f"Received: {high[-1]} and {low[-1]}"
            )
        channels = (high[-1] + low[-1]) // 4
        dtype = {"dtype": self.dtype_policy}
        self.compress_high, self.compress_low = (
            PointwiseConvolution(
                channels, kernel_initializer="glorot_uniform", name=name, **dtype
            )
            for name in ("compress_high", "compress_low")
        )
        self.high_pass, self.low_pass = (
            SymmetricConv2D(
                size**2,
                3,
                kernel_initializer=keras.initializers.RandomNormal(stddev=0.001),
                name=name,
                **dtype,
            )
            for size, name in ((HIGH_PASS, "high_pass"), (LOW_PASS, "low_pass"))
        )
        self.resampler = SimilarityGuidedResampler(name="resampler", **dtype)
        self.compress_high.build(high)
        self.compress_low.build(low)
        guides = [(*shape[:-1], channels) for shape in input_shape]
        self.high_pass.build(guides[0])
        self.low_pass.build(guides[0])
        self.resampler.build([*guides, (*high[:-1], low[-1])])

    def call(self, inputs):
        high, low = inputs
        check_sizes(high.shape, low.shape)
        guide_high, guide_low = self.compress_high(high), self.compress_low(low)

        high_pass = self.high_pass(guide_high)
        guide_high = _sharpen(guide_high, high_pass)
        low_pass = self.low_pass(guide_high)
        (more,) = carafe([self.low_pass(guide_low)], softmax(low_pass), scale=2)
        kernels = softmax(low_pass + more)
        low, more = carafe([low, self.high_pass(guide_low)], kernels, scale=2)
        high = _sharpen(high, high_pass + more)
        return [high, self.resampler([guide_high, guide_low, low])]

    def compute_output_shape(self, input_shape):
        high, low = input_shape
        return [tuple(high), (*high[:-1], low[-1])]

    def attention_flops(self, input_shape):
        """Multiply-accumulates of the reassembly: features times kernels of a pixel.

        Counted as defined, k² for each value; the zeros that tiles multiply besides are
        not. Similarities and bilinear reads, about a tenth of it, are left out, as
        normalizations and resizing are elsewhere; so count the authors' figures.
        """
        (batch, height, width, c), (*_, d) = input_shape
        sharpened = (c + d) // 4 + c
        enlarged = LOW_PASS**2 + HIGH_PASS**2 + d
        products = HIGH_PASS**2 * sharpened + LOW_PASS**2 * enlarged
        return batch * height * width * products


def check_sizes(high, low):
    """Raise ValueError if a map is not half of the other, as far as sizes are known."""
    for large, small in zip(high[1:3], low[1:3], strict=True):
        if None not in (large, small) and small != -(-large // 2):
            half = tuple(None if n is None else -(-n // 2) for n in high[1:3])
            raise ValueError(
                "FreqFusion expects a low-resolution map of half the size of the "
                f"high-resolution map, rounded up: {half} for {tuple(high[1:3])}. "
                f"Received: {tuple(low[1:3])}"
            )


def _sharpen(x, kernels):
    """Add to a map what an adaptive low-pass filter takes away from it."""
    (smooth,) = carafe([x], softmax(kernels))
    return 2.0 * x - smooth
