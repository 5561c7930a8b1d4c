"""The softmax of attention weights, and the means that it makes."""

import keras
from keras import ops

from keras_lrseg.layers.convolution import on_jax_cpu


def softmax(x):
    """Softmax over the last axis, in float32 whatever the policy; x's type again."""
    y = ops.cast(x, "float32")
    if on_jax_cpu():
        from keras_lrseg.layers import jax_softmax

        y = jax_softmax.softmax(y)
    else:
        y = ops.softmax(y, axis=-1)
    return ops.cast(y, x.dtype)


def means_of_pixels(x, scores):
    """Means of pixels, weighted by the softmax over the pixels of their scores.

    Args:
        x: (B, H, W, C).
        scores: (B, H, W, K), of K classes, of x's type.

    Returns:
        (B, K, C).
    """
    _, height, width, channels = ops.shape(x)
    dtype = keras.backend.standardize_dtype(x.dtype)
    if dtype == "float16":  # too small a range for the weights of many pixels
        x, scores = ops.cast(x, "float32"), ops.cast(scores, "float32")
    x = ops.reshape(x, (-1, height * width, channels))
    scores = ops.reshape(scores, (-1, height * width, scores.shape[-1]))
    return ops.cast(ops.matmul(softmax(ops.swapaxes(scores, 1, 2)), x), dtype)
