"""Content-aware reassembly (CARAFE, Wang et al., ICCV 2019) as matrix products.

Every output pixel has its own k×k kernel. Computed as written, that is k² passes over
the map, or a k²-fold copy of it. Here the map is cut into tiles of 4×4 pixels. All the
outputs of a tile read one window of (4+k-1)² pixels, so a tile is one product of a
matrix, its kernels, with the window. For k = 5 windows hold the map four times, not 25
times, and the products, 2.6 times as many, run at the speed of matrix products. The
gradient is made of the same operations. No tensor has more than four axes. On JAX's CPU
only the gradient is computed so, see `jax_carafe`.
"""

import keras
from keras import ops

from keras_lrseg.layers.convolution import on_jax_cpu

TILE = 4


def carafe(features, kernels, scale=1):
    """Reassemble each pixel of feature maps from a neighbourhood by its own kernel.

        y[Y, X] = Σ over i, j of kernels[Y, X, i, j] · x[Y//scale + i - k//2, X//scale
                  + j - k//2], with zeros outside of the map

    Args:
        features: list of maps (B, h, w, C), of any C each; maps that share kernels
            share the work of laying them out.
        kernels: (B, H, W, k²), row-major, k 3 or 5, with h = ceil(H/scale) and
            w = ceil(W/scale). They are used as they are: a softmax is the caller's.
        scale: factor of the enlargement.

    Returns:
        List of maps (B, H, W, C).

    Raises:
        ValueError: for sizes that do not fit together.

    Reference: CARAFE (Wang et al., ICCV 2019), the reassembly module, with one group.
    """
    _check_shapes(features, kernels, scale)
    if on_jax_cpu():
        from keras_lrseg.layers import jax_carafe

        return jax_carafe.carafe(_by_tiles, features, kernels, scale)
    return _by_tiles(features, kernels, scale)


def _check_shapes(features, kernels, scale):
    _, *size, taps = kernels.shape
    if taps not in (9, 25):
        raise ValueError(f"kernels expect 9 or 25 values a pixel. Received: {taps}")
    small = [None if n is None else -(-n // scale) for n in size]
    for x in features:
        pairs = zip(x.shape[1:3], small, strict=True)
        if any(None not in pair and pair[0] != pair[1] for pair in pairs):
            raise ValueError(
                f"Kernels of {tuple(size)} pixels enlarge {tuple(small)} pixels by "
                f"{scale}. Received a map of shape {tuple(x.shape)}"
            )


def _by_tiles(features, kernels, scale):
    _, height, width, taps = ops.shape(kernels)
    size = round(taps**0.5)
    side = scale * TILE
    grid = (-(-height // side), -(-width // side))
    matrices = _matrices(kernels, size, scale, grid)
    tiles = [ops.matmul(matrices, _windows(x, size, grid)) for x in features]
    return [_join_tiles(x, side, grid, (height, width)) for x in tiles]


def _matrices(kernels, size, scale, grid):
    """Lay out kernels (B, H, W, k²) as (tiles, outputs, window), mostly zeros."""
    window, side = TILE + size - 1, scale * TILE
    x = _pad(kernels, (0, 0), (grid[0] * side, grid[1] * side))
    if keras.config.backend() == "torch":
        return _torch_matrices(x, size, scale, grid[1])
    x = ops.reshape(x, (-1, side, grid[1], side * size**2))
    x = ops.transpose(x, (0, 2, 1, 3))  # (B·rows, columns, side, side·k²)
    x = ops.reshape(x, (-1, size, size))
    margin = (0, window - size)
    x = ops.pad(x, ((0, 0), margin, margin))
    # The kernels of the tile's pixel (a, b) begin at the window's pixel (a, b).
    x = _skew(ops.reshape(x, (-1, TILE, scale * window**2)), 1)
    x = _skew(ops.reshape(x, (-1, TILE, scale * side * window**2)), window)
    return ops.reshape(x, (-1, side**2, window**2))


def _torch_matrices(x, size, scale, columns):
    """The same in one pass: a view of the zeros that are the kernels' places."""
    window, side = TILE + size - 1, scale * TILE
    x = x.reshape(-1, TILE, scale, columns, TILE, scale, size, size)
    x = x.permute(0, 3, 1, 2, 4, 5, 6, 7)  # (B·rows, columns, pixel's axes, k, k)
    matrices = x.new_zeros((x.shape[0] * columns, side**2, window**2))
    tile, row, output = side**2 * window**2, side * window**2, window**2
    strides = (columns * tile, tile, scale * row + window, row, scale * output + 1)
    matrices.as_strided(x.shape, (*strides, output, window, 1)).copy_(x)
    return matrices


def _skew(x, step):
    """Shift row a of (N, rows, M), read as one line, by a·step; its end is zeros."""
    _, rows, length = x.shape
    x = ops.pad(x, ((0, 0), (0, 0), (0, step)))
    return ops.reshape(x, (-1, rows * (length + step)))[:, : rows * length]


def _windows(x, size, grid):
    """Cut (B, h, w, C) into overlapping windows, (tiles, window, C)."""
    window, (rows, columns), channels = TILE + size - 1, grid, x.shape[-1]
    x = _pad(x, (size // 2, size // 2), ((rows + 1) * TILE, (columns + 1) * TILE))
    if keras.config.backend() == "torch":  # one copy, of a view
        x = x.unfold(1, window, TILE).unfold(2, window, TILE)
        x = x.permute(0, 1, 2, 4, 5, 3)  # (B, rows, columns, window, window, C)
        return x.reshape(-1, window**2, channels)
    # A window is a tile and the beginning of the next, first by rows, then by columns.
    x = ops.reshape(x, (-1, rows + 1, TILE, (columns + 1) * TILE * channels))
    x = ops.concatenate([x[:, :-1], x[:, 1:, : size - 1]], axis=2)
    x = ops.reshape(x, (-1, columns + 1, TILE, channels))
    x = ops.concatenate([x[:, :-1], x[:, 1:, : size - 1]], axis=2)
    x = ops.reshape(x, (-1, window, columns, window * channels))
    x = ops.transpose(x, (0, 2, 1, 3))  # (B·rows, columns, window, window·C)
    return ops.reshape(x, (-1, window**2, channels))


def _join_tiles(x, side, grid, size):
    """(tiles, side², C) to (B, height, width, C)."""
    (rows, columns), channels = grid, x.shape[-1]
    x = ops.reshape(x, (-1, columns, side, side * channels))
    x = ops.transpose(x, (0, 2, 1, 3))  # (B·rows, side, columns, side·C)
    x = ops.reshape(x, (-1, rows * side, columns * side, channels))
    if tuple(x.shape[1:3]) == size:
        return x  # LiteRT would copy the whole map
    return x[:, : size[0], : size[1]]


def _pad(x, before, size):
    """Pad (B, H, W, C) with zeros to a (height, width)."""
    _, *current, _ = ops.shape(x)
    pads = [(b, n - c - b) for b, n, c in zip(before, size, current, strict=True)]
    return ops.pad(x, ((0, 0), *pads, (0, 0)))
