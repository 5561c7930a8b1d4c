import numpy as np
import pytest
from keras import ops

from keras_lrseg.layers import (
    LowResolutionSelfAttention,
    ResizeLike,
    adaptive_average_pools,
    resize_bilinear,
)
from keras_lrseg.layers.resampling import aspect_grid, pooling_matrix
from tests.helpers import normal, run, tensorflow_only
from tests.reference import GOLDEN, assert_golden

POOLED_SIZES = np.load(GOLDEN / "pooled_sizes.npy").tolist()


def pool_by_loops(x, rows, columns):
    """Adaptive average pooling as PyTorch's documentation defines it."""
    _, height, width, _ = x.shape
    pooled = np.empty((x.shape[0], rows, columns, x.shape[3]), "float32")
    for i in range(rows):
        top, bottom = i * height // rows, -(-(i + 1) * height // rows)
        for j in range(columns):
            left, right = j * width // columns, -(-(j + 1) * width // columns)
            pooled[:, i, j] = x[:, top:bottom, left:right].mean((1, 2))
    return pooled


def resize_by_loops(x, height, width):
    """Bilinear resizing with half-pixel centres, one output pixel after the other."""

    def neighbours(i, size_in, size_out):
        centre = min(max((i + 0.5) * size_in / size_out - 0.5, 0), size_in - 1)
        low = int(centre)
        return low, min(low + 1, size_in - 1), centre - low

    resized = np.empty((x.shape[0], height, width, x.shape[3]), "float32")
    for i in range(height):
        top, bottom, down = neighbours(i, x.shape[1], height)
        for j in range(width):
            left, right, across = neighbours(j, x.shape[2], width)
            above = (1 - across) * x[:, top, left] + across * x[:, top, right]
            below = (1 - across) * x[:, bottom, left] + across * x[:, bottom, right]
            resized[:, i, j] = (1 - down) * above + down * below
    return resized


def test_grids_are_those_the_authors_code_pools_to():
    assert len(POOLED_SIZES) == 99
    for pool_size, height, width, *expected in POOLED_SIZES:
        grids = LowResolutionSelfAttention(1, pool_size).grids(height, width)
        assert np.ravel(grids).tolist() == expected, (pool_size, height, width)


def test_longer_side_is_rounded_as_the_authors_round():
    sizes = [(h, w) for h in range(1, 80) for w in range(h, 160)]
    # Here 0.001 decides: 16 · 1409 / 1002 is 22.499.
    for height, width in [*sizes, (1002, 1409)]:
        longer = round(16 * width / height + 0.001)
        assert aspect_grid(16, height, width) == (16, longer)
        assert aspect_grid(16, width, height) == (longer, 16)


@tensorflow_only
def test_grids_are_the_same_when_sizes_are_tensors():
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((None,), "int32")] * 3)
    def grids(size, height, width):  # of many maps in one call
        return aspect_grid(size, height, width)

    size, height, width, rows, columns, *_ = np.transpose(POOLED_SIZES)
    for actual, expected in zip(
        grids(size, height, width), (rows, columns), strict=True
    ):
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize(
    ("size", "grid"),
    [
        ((21, 39), (7, 13)),  # keras.ops.adaptive_average_pool fails on JAX here
        ((39, 21), (13, 7)),
        ((5, 5), (16, 16)),
        ((5, 20), (16, 3)),
        ((17, 31), (16, 29)),
        ((9, 7), (9, 7)),
        ((6, 4), (1, 1)),
    ],
)
def test_pooling_averages_pytorchs_windows(size, grid):
    x = normal(str(size), (2, *size, 3))
    (pooled,) = run(lambda x: adaptive_average_pools(x, [grid]), x)
    np.testing.assert_allclose(pooled, pool_by_loops(x, *grid), atol=1e-5)


def test_pooling_to_many_grids_equals_pooling_to_each():
    x = normal("many grids", (2, 13, 17, 3))
    grids = [(16, 21), (11, 14), (4, 5), (2, 1)]
    pools = run(lambda x: adaptive_average_pools(x, grids), x)
    for pooled, grid in zip(pools, grids, strict=True):
        np.testing.assert_allclose(pooled, pool_by_loops(x, *grid), atol=1e-5)


def test_rows_of_the_pooling_matrix_are_averages():
    assert pooling_matrix(39, 13).sum(1) == pytest.approx(1)
    assert pooling_matrix(5, 16).sum(1) == pytest.approx(1)


def test_grid_as_large_as_the_map_leaves_it_alone():
    np.testing.assert_array_equal(pooling_matrix(7, 7), np.eye(7))


@tensorflow_only
@pytest.mark.parametrize("size", [(21, 39), (5, 16), (16, 16)])
def test_pooling_of_unknown_sizes_equals_that_of_known_ones(size):
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3))])
    def pools(x):
        _, height, width, _ = ops.shape(x)
        return adaptive_average_pools(
            x, [aspect_grid(n, height, width) for n in (7, 4)]
        )

    x = normal(str(size), (2, *size, 3))
    grids = [aspect_grid(n, *size) for n in (7, 4)]
    for pooled, grid in zip(pools(x), grids, strict=True):
        np.testing.assert_allclose(pooled, pool_by_loops(x, *grid), atol=1e-5)


@pytest.mark.parametrize(
    ("case", "size", "grid"),
    [
        ("adaptive_pool_down", (13, 17), (5, 7)),
        ("adaptive_pool_up", (4, 5), (16, 20)),
        ("adaptive_pool_mixed", (9, 6), (16, 4)),
        ("adaptive_pool_divides", (32, 48), (16, 24)),
    ],
)
def test_pooling_equals_pytorchs(case, size, grid):
    x = normal(case, (1, 3, *size)).transpose(0, 2, 3, 1)
    (pooled,) = run(lambda x: adaptive_average_pools(x, [grid]), x)
    assert_golden(pooled.transpose(0, 3, 1, 2), "layers.npz", case, 1e-5)


@pytest.mark.parametrize(
    ("case", "size", "target"),
    [
        ("bilinear_up", (5, 7), (13, 17)),
        ("bilinear_down_no_antialias", (16, 20), (2, 3)),
        ("bilinear_mixed", (16, 6), (7, 11)),
    ],
)
def test_resizing_equals_pytorchs(case, size, target):
    x = normal(case, (1, 3, *size)).transpose(0, 2, 3, 1)
    resized = run(lambda x: resize_bilinear(x, target), x)
    assert_golden(resized.transpose(0, 3, 1, 2), "layers.npz", case, 1e-5)


RESIZES = [((5, 7), (10, 21)), ((16, 20), (5, 6)), ((6, 9), (4, 31)), ((1, 1), (3, 2))]


@pytest.mark.parametrize(("size", "target"), RESIZES)
def test_resizing_interpolates_between_half_pixel_centres(size, target):
    x = normal(str(size), (2, *size, 3))
    resized = run(lambda x: resize_bilinear(x, target), x)
    np.testing.assert_allclose(resized, resize_by_loops(x, *target), atol=1e-5)


@tensorflow_only
@pytest.mark.parametrize(("size", "target"), RESIZES)
def test_resizing_of_unknown_sizes_equals_that_of_known_ones(size, target):
    import tensorflow as tf

    unknown = tf.TensorSpec((None, None, None, 3))

    @tf.function(input_signature=[unknown, unknown])
    def resize(x, reference):
        return ResizeLike()([x, reference])

    x, reference = (
        normal(str(size), (2, *size, 3)),
        np.zeros((2, *target, 3), "float32"),
    )
    np.testing.assert_allclose(
        resize(x, reference), resize_by_loops(x, *target), atol=1e-5
    )


def test_resizing_to_the_same_size_changes_nothing():
    x = ops.convert_to_tensor(normal("same", (1, 4, 6, 2)))
    assert resize_bilinear(x, (4, 6)) is x
