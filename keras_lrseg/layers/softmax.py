"""The softmax of attention weights."""

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
