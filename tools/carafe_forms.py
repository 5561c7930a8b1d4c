"""Forms of CARAFE's reassembly that `tools/benchmark_carafe.py` compares.

Those in Keras are called as `keras_lrseg.layers.carafe` is, with sizes that are whole
multiples of the scale.
"""

from keras import ops


def shifts(features, kernels, scale=1):
    """A sum of shifted maps, each multiplied by its plane of the kernels."""
    kernels = _by_pixel(kernels, scale)
    return [
        _enlarged(
            sum(
                moved[:, :, :, None] * kernels[..., i : i + 1]
                for i, moved in enumerate(_neighbours(x, kernels.shape[-1]))
            )
        )
        for x in features
    ]


def unfold(features, kernels, scale=1):
    """A product of each pixel's kernels with its neighbours, which are laid out."""
    kernels = _by_pixel(kernels, scale)
    return [
        _enlarged(
            # (B, h, w, scale², k²) · (B, h, w, k², C)
            ops.matmul(kernels, ops.stack(_neighbours(x, kernels.shape[-1]), 3))
        )
        for x in features
    ]


def torch_unfold(x, kernels):
    """`unfold` in plain PyTorch, maps (B, C, h, w) and kernels (B, k², H, W)."""
    import torch
    import torch.nn.functional as F

    taps, scale = kernels.shape[1], kernels.shape[2] // x.shape[2]
    size = round(taps**0.5)
    kernels = F.pixel_unshuffle(kernels, scale).unflatten(1, (taps, scale**2))
    y = F.unfold(x, size, padding=size // 2).unflatten(1, (-1, taps))
    y = torch.einsum("bctn,btsn->bcsn", y, kernels.flatten(3))  # (B, C, scale², h·w)
    y = y.unflatten(3, x.shape[2:]).flatten(1, 2)  # (B, C·scale², h, w)
    return F.pixel_shuffle(y, scale)


def _by_pixel(kernels, scale):
    """(B, H, W, k²) to (B, h, w, scale², k²)."""
    batch, height, width, taps = kernels.shape
    split = (batch, height // scale, scale, width // scale, scale, taps)
    x = ops.transpose(ops.reshape(kernels, split), (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (batch, height // scale, width // scale, scale**2, taps))


def _enlarged(x):
    """(B, h, w, scale², C) to (B, H, W, C)."""
    batch, height, width, outputs, channels = x.shape
    scale = round(outputs**0.5)
    x = ops.reshape(x, (batch, height, width, scale, scale, channels))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))  # (B, h, scale, w, scale, C)
    return ops.reshape(x, (batch, height * scale, width * scale, channels))


def _neighbours(x, taps):
    """The maps that hold each pixel's i-th neighbour."""
    size = round(taps**0.5)
    _, height, width, _ = x.shape
    margin = (size // 2, size // 2)
    x = ops.pad(x, ((0, 0), margin, margin, (0, 0)))
    corners = [divmod(i, size) for i in range(taps)]
    return [x[:, top : top + height, left : left + width] for top, left in corners]
