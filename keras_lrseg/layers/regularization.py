"""Layer scale and drop path of residual branches, and dropout of channels."""

import keras
from keras import ops

from keras_lrseg.layers.random import uniform


@keras.saving.register_keras_serializable(package="keras_lrseg")
class LayerScale(keras.layers.Layer):
    """Multiply each channel by a learnt factor (Touvron et al., 2021, equation 4).

    Args:
        initial_value: factor that every channel starts with.

    Input and output: (..., C).
    """

    def __init__(self, initial_value=1e-6, **kwargs):
        super().__init__(**kwargs)
        self.initial_value = initial_value

    def build(self, input_shape):
        self.scale = self.add_weight(
            name="scale",
            shape=(input_shape[-1],),
            initializer=keras.initializers.Constant(self.initial_value),
        )

    def call(self, x):
        return x * self.scale

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "initial_value": self.initial_value}


@keras.saving.register_keras_serializable(package="keras_lrseg")
class DropPath(keras.layers.Layer):
    """Drop a residual branch for whole samples in training (Huang et al., 2016).

    The samples that stay are divided by `1 - rate`, so the mean is unchanged.

    Args:
        rate: probability of dropping a sample, in [0, 1).
        seed: integer seed, or None.

    Input and output: (B, ...).
    """

    def __init__(self, rate=0.0, seed=None, **kwargs):
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(
                f"{type(self).__name__} expects 0 <= rate < 1. Received: rate={rate}"
            )
        self.rate = rate
        self.seed = seed
        if rate > 0:
            self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, x, training=False):
        if not training or self.rate == 0:
            return x
        kept = uniform(self._units(x), self.seed_generator) >= self.rate
        return x * (ops.cast(kept, x.dtype) / (1 - self.rate))

    def _units(self, x):
        """The shape of what is dropped or kept as a whole."""
        return (ops.shape(x)[0],) + (1,) * (len(x.shape) - 1)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}


@keras.saving.register_keras_serializable(package="keras_lrseg")
class ChannelDropout(DropPath):
    """Drop whole channels of a sample in training, as `keras.layers.SpatialDropout2D`.

    Args:
        rate: probability of dropping a channel, in [0, 1).
        seed: integer seed, or None.

    Input and output: (B, H, W, C).
    """

    def _units(self, x):
        return (ops.shape(x)[0], 1, 1, x.shape[-1])
