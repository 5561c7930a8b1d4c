"""The Swin Transformer's layers against plain NumPy."""

from functools import partial

import numpy as np
import pytest

from keras_lrseg.layers.swin import (
    PatchEmbedding,
    PatchMerging,
    SwinBlock,
    WindowAttention,
)
from tests.helpers import fill, normal, numpy, refused, run


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def attended(layer, x):
    """The output for a map (H, W, C), all positions at once.

    Windows start `shift` pixels from the top and left; those cut off there and at the
    bottom and right are windows of their own.
    """
    size, heads, (height, width, channels) = layer.window_size, layer.num_heads, x.shape
    x = np.pad(x, [(0, -height % size), (0, -width % size), (0, 0)])
    places = np.stack(np.indices(x.shape[:2]), -1).reshape(-1, 2)
    cells = (places - layer.shift) // size
    together = (cells[:, None] == cells[None]).all(-1)  # (N, N)
    distance = np.where(together[..., None], places[:, None] - places[None], 0)
    table = numpy(layer.bias_table).reshape(2 * size - 1, 2 * size - 1, heads)
    biases = table[tuple(np.moveaxis(distance + size - 1, -1, 0))].transpose(2, 0, 1)

    parts = run(layer.query_key_value, x).reshape(-1, 3, heads, channels // heads)
    q, k, v = parts.transpose(1, 2, 0, 3)  # (heads, N, d)
    scores = q @ k.transpose(0, 2, 1) / q.shape[-1] ** 0.5 + biases
    y = softmax(np.where(together, scores, -np.inf)) @ v
    y = y.transpose(1, 0, 2).reshape(x.shape)[:height, :width]
    return run(layer.projection, y[None])[0]


@pytest.mark.parametrize("size", [(8, 12), (9, 14), (3, 2)])
@pytest.mark.parametrize("shift", [0, 2, 3])
def test_positions_attend_inside_their_windows(size, shift):
    x = normal("features", (2, *size, 8))
    layer = WindowAttention(2, window_size=4, shift=shift)
    layer.build(x.shape)
    fill(layer)
    expected = [attended(layer, image) for image in x]
    np.testing.assert_allclose(run(layer, x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(8, 12), (7, 9), (3, 2)])
def test_patches_are_filled_up_with_zeros(size):
    x = normal("features", (2, *size, 3))
    layer = PatchEmbedding(5)
    layer.build(x.shape)
    fill(layer)
    padded = np.pad(x, [(0, 0), *((0, -n % 4) for n in size), (0, 0)])
    np.testing.assert_allclose(run(layer, x), run(layer, padded), rtol=1e-5, atol=1e-6)


def test_merging_takes_four_pixels_row_by_row():
    x = normal("features", (2, 5, 6, 3))
    layer = PatchMerging(4)
    layer.build(x.shape)
    fill(layer)
    y = np.pad(x, [(0, 0), (0, 1), (0, 0), (0, 0)])
    pixels = [y[:, row::2, column::2] for row in (0, 1) for column in (0, 1)]
    expected = run(layer.reduction, run(layer.norm, np.concatenate(pixels, -1)))
    np.testing.assert_allclose(run(layer, x), expected, rtol=1e-4, atol=1e-5)


def test_attention_counts_its_two_products():
    layer = WindowAttention(2, window_size=4)
    windows = 3 * 3 * 4  # of three maps
    assert layer.attention_flops((3, 9, 14, 8)) == 2 * windows * 16 * 16 * 8


def test_heads_must_divide_the_channels():
    with refused("multiple of num_heads", "channels=32", "num_heads=5"):
        WindowAttention(5).build((None, None, None, 32))


@pytest.mark.parametrize("shift", [-1, 7])
def test_shift_must_be_smaller_than_the_window(shift):
    with refused("0 <= shift < window_size", f"shift={shift}, window_size=7"):
        WindowAttention(1, shift=shift)


def test_dropped_paths_leave_the_input(monkeypatch):
    x = normal("features", (2, 5, 7, 8))
    block = SwinBlock(2, 3, drop_path_rate=0.5)
    block.build(x.shape)
    fill(block)
    monkeypatch.setattr(block.drop_path, "call", lambda y, training: y * (not training))
    np.testing.assert_array_equal(run(partial(block, training=True), x), x)
    assert abs(run(block, x) - x).max() > 0.1


def test_weights_start_as_the_authors_draw_them():
    block = SwinBlock(4)
    block.build((None, None, None, 64))
    random = [w for w in block.weights if w.name in ("kernel", "bias_table")]
    assert len(random) == 5
    for weight in random:
        assert numpy(weight).std() == pytest.approx(0.02, rel=0.15)
    assert not any(numpy(w).any() for w in block.weights if w.name == "bias")
