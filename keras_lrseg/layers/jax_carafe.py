"""CARAFE for JAX on a CPU: the sum as it is written, which XLA makes one pass.

That is 5 times faster than the products of tiles. Its gradient would be 40 times
slower than theirs, so the gradient is theirs.
"""

import functools

import jax
import jax.numpy as jnp


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 3))
def carafe(tiles, features, kernels, scale):
    """`keras_lrseg.layers.carafe`; `tiles` is the form to take the gradient from."""
    _, height, width, taps = kernels.shape
    size = round(taps**0.5)
    _, h, w, _ = features[0].shape
    missing = ((0, 0), (0, h * scale - height), (0, w * scale - width), (0, 0))
    kernels = jnp.pad(kernels.astype("float32"), missing)
    # Behind a barrier, or XLA computes what produced it again for each of the shifts.
    kernels = jax.lax.optimization_barrier(kernels)
    kernels = kernels.reshape(-1, h, scale, w, scale, taps)

    def reassemble(x):
        margin = (size // 2, size // 2)
        padded = jnp.pad(x.astype("float32"), ((0, 0), margin, margin, (0, 0)))
        padded = jax.lax.optimization_barrier(padded)
        y = sum(
            padded[:, i : i + h, None, j : j + w, None]  # (B, h, 1, w, 1, C)
            * kernels[..., i * size + j, None]
            for i in range(size)
            for j in range(size)
        )
        y = y.reshape(-1, h * scale, w * scale, x.shape[3])
        return y[:, :height, :width].astype(x.dtype)

    return [reassemble(x) for x in features]


def _forward(tiles, features, kernels, scale):
    return carafe(tiles, features, kernels, scale), (features, kernels)


def _backward(tiles, scale, saved, dy):
    _, gradients = jax.vjp(lambda *inputs: tiles(*inputs, scale), *saved)
    return gradients(dy)


carafe.defvjp(_forward, _backward)
