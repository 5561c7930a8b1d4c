"""The exact GELU in the form that each compiler and converter knows."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_lrseg")
def gelu(x):
    """`x · Φ(x) = 0.5 · x · (1 + erf(x / √2))`, exact (Hendrycks and Gimpel, 2016).

    `keras.ops.gelu` uses erfc, which TensorFlow does not fuse into the matrix product
    in front (3 times slower there), and ONNX has no operator for it. PyTorch has one
    operator for it all.
    """
    if keras.config.backend() == "torch":
        return ops.gelu(x, approximate=False)
    return 0.5 * x * (1.0 + ops.erf(x * 0.7071067811865476))
