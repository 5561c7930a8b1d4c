"""The linear map of transformers."""

import keras


def linear(units: int, **settings) -> keras.layers.Dense:
    """`keras.layers.Dense` that starts from a truncated normal of deviation 0.02.

    One initialiser for each layer: a shared one would give all the same values.
    """
    initializer = keras.initializers.TruncatedNormal(stddev=0.02)
    return keras.layers.Dense(units, kernel_initializer=initializer, **settings)
