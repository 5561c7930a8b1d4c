"""What all multi-head attentions have in common."""

import math

import keras
from keras import ops

from keras_lrseg.layers.softmax import softmax


def check_heads(channels: int, num_heads: int) -> None:
    """Raise a ValueError unless the heads divide the channels."""
    if channels % num_heads:
        raise ValueError(
            "The number of channels must be a multiple of num_heads. "
            f"Received: channels={channels}, num_heads={num_heads}"
        )


def split_heads(x, num_heads):
    """Divide the channels of tokens (B, N, C), or of a map's N pixels (B, H, W, C).

    Returns:
        (B, heads, N, C / heads).
    """
    _, *size, channels = ops.shape(x)
    x = ops.reshape(x, (-1, math.prod(size), num_heads, channels // num_heads))
    return ops.transpose(x, (0, 2, 1, 3))


def merge_heads(x, *size):
    """Undo `split_heads`: (B, heads, N, d) to (B, *size, heads * d), N of that size."""
    channels = x.shape[1] * x.shape[3]
    return ops.reshape(ops.transpose(x, (0, 2, 1, 3)), (-1, *size, channels))


def dot_product_attention(queries, keys, values, mask=None):
    """Attention of (B, heads, N, d) tensors; the softmax is float32 in any policy.

    A mask, boolean (B, 1, Nq, Nk), is true where a query may look, somewhere at least.

    PyTorch's fused operator never holds the (Nq, Nk) scores, half of the decoder's time
    there; the other backends' `keras.ops` would do what is written here.
    """
    if keras.config.backend() == "torch":
        import torch.nn.functional as F

        return F.scaled_dot_product_attention(queries, keys, values, mask)
    # Scaled first: in float16 the bare product can overflow.
    queries = queries * queries.shape[-1] ** -0.5
    scores = ops.matmul(queries, ops.transpose(keys, (0, 1, 3, 2)))  # (B, h, Nq, Nk)
    if mask is not None:
        scores = ops.where(mask, ops.cast(scores, "float32"), -1e9)
    return ops.matmul(ops.cast(softmax(scores), values.dtype), values)
