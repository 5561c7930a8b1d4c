"""Hamburger: global context by matrix factorisation (Geng et al., ICLR 2021)."""

import keras
import numpy as np
from keras import ops

from keras_lrseg.layers.convolution import PointwiseConvolution, kaiming_normal
from keras_lrseg.layers.convolution_norm import ConvolutionNorm
from keras_lrseg.layers.random import uniform
from keras_lrseg.layers.softmax import softmax

EPSILON = 1e-6


@keras.saving.register_keras_serializable(package="keras_lrseg")
class NonNegativeFactorization(keras.layers.Layer):
    """Replace a non-negative map by a product of two factors of low rank.

    The N pixels X (N, C) become A · B, of coefficients A (N, R) and bases B (R, C),
    found by multiplicative updates (Lee and Seung, 2001) from random bases and
    A = softmax(X · Bᵀ):

        A = A ⊗ (X · Bᵀ) / (A · B · Bᵀ)
        B = B ⊗ (Aᵀ · X) / (Aᵀ · A · B)

    once for each step, and A once more. Gradients flow through all steps, as in the
    authors' code. Float32 whatever the policy.

    The authors draw new bases at every call. Here they are new in training only;
    inference starts from bases that `seed` alone determines, so that a model gives the
    same result twice, on every backend and in an exported file.

    Args:
        rank: R, number of bases.
        train_steps, steps: updates in training and in inference.
        seed: integer.

    Input: (B, H, W, C); what is negative counts as zero. Output: (B, H, W, C).

    Reference: Geng et al., "Is Attention Better Than Matrix Decomposition?", ICLR 2021;
    rank and steps are those of SegNeXt's code.
    """

    def __init__(self, rank=16, train_steps=6, steps=7, seed=0, **kwargs):
        super().__init__(**kwargs)
        self.rank = rank
        self.train_steps = train_steps
        self.steps = steps
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, input_shape):
        # NumPy's numbers: a seed gives others on each backend.
        rng = np.random.default_rng(self.seed)
        bases = rng.random((self.rank, input_shape[-1]), "float32")  # (R, C)
        self.bases = bases / np.linalg.norm(bases, axis=1, keepdims=True)

    def call(self, x, training=False):
        batch, height, width, channels = ops.shape(x)
        pixels = ops.reshape(x, (-1, height * width, channels))  # (B, N, C)
        pixels = ops.relu(ops.cast(pixels, "float32"))
        bases = ops.convert_to_tensor(self.bases)
        if training:
            bases = self._random_bases(batch, channels)
        products = _products(pixels, bases)
        coefficients = softmax(products)
        for _ in range(self.train_steps if training else self.steps):
            coefficients = _updated(coefficients, products, bases)
            bases = _updated_bases(bases, pixels, coefficients)
            products = _products(pixels, bases)
        coefficients = _updated(coefficients, products, bases)
        y = ops.matmul(coefficients, bases)  # (B, N, C)
        return ops.cast(ops.reshape(y, (-1, height, width, channels)), x.dtype)

    def _random_bases(self, batch, channels):
        shape = (batch, self.rank, channels)
        return ops.normalize(uniform(shape, self.seed_generator), axis=-1)

    def compute_output_shape(self, input_shape):
        return input_shape

    def attention_flops(self, input_shape):
        """Multiply-accumulates of the products, each computed once."""
        batch, height, width, channels = input_shape
        n, r = batch * height * width, self.rank
        large, small = n * r * channels, n * r * r + batch * r * r * channels
        updates = 2 * self.steps + 1
        return (updates + 1) * large + updates * small

    def published_flops(self, input_shape):
        """The same with X · Bᵀ computed again for the first update."""
        batch, height, width, channels = input_shape
        again = batch * height * width * self.rank * channels
        return self.attention_flops(input_shape) + again

    def get_config(self):
        return {
            **super().get_config(),
            "rank": self.rank,
            "train_steps": self.train_steps,
            "steps": self.steps,
            "seed": self.seed,
        }


# Only small factors are transposed: a large one would be copied.


def _products(pixels, bases):
    return ops.matmul(pixels, ops.swapaxes(bases, -1, -2))  # (B, N, R)


def _updated(coefficients, products, bases):
    gram = ops.matmul(bases, ops.swapaxes(bases, -1, -2))  # (B, R, R)
    return coefficients * products / (ops.matmul(coefficients, gram) + EPSILON)


def _updated_bases(bases, pixels, coefficients):
    transposed = ops.swapaxes(coefficients, -1, -2)  # (B, R, N)
    gram = ops.matmul(transposed, coefficients)  # (B, R, R)
    products = ops.matmul(transposed, pixels)  # (B, R, C)
    return bases * products / (ops.matmul(gram, bases) + EPSILON)


@keras.saving.register_keras_serializable(package="keras_lrseg")
class Hamburger(keras.layers.Layer):
    """Factorisation between two linear maps: `ReLU(x + norm(W2 · NMF(W1 · x)))`.

    Group norm of 32 groups; W1 is biased, W2 not.

    Args:
        rank, seed: of `NonNegativeFactorization`.

    Input and output: (B, H, W, C); 32 divides C.

    Reference: Geng et al., "Is Attention Better Than Matrix Decomposition?", ICLR 2021.
    """

    def __init__(self, rank=16, seed=0, **kwargs):
        super().__init__(**kwargs)
        self.rank = rank
        self.seed = seed
        self.factorization = NonNegativeFactorization(
            rank, seed=seed, name="factorization", dtype=self.dtype_policy
        )

    def build(self, input_shape):
        channels = input_shape[-1]
        self.lower_bread = PointwiseConvolution(
            channels,
            kernel_initializer=kaiming_normal(),
            name="lower_bread",
            dtype=self.dtype_policy,
        )
        self.upper_bread = ConvolutionNorm(
            channels,
            norm="group",
            kernel_initializer=kaiming_normal(),
            name="upper_bread",
            dtype=self.dtype_policy,
        )
        for layer in (self.lower_bread, self.factorization, self.upper_bread):
            layer.build(input_shape)

    def call(self, x, training=False):
        y = self.factorization(self.lower_bread(x), training=training)
        return ops.relu(x + self.upper_bread(y))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "rank": self.rank, "seed": self.seed}
