"""The Mix Transformer's layers against the authors' numbers and plain NumPy."""

from functools import partial

import keras
import numpy as np
import pytest

from keras_lrseg.checkpoints.segformer import BACKBONE
from keras_lrseg.layers import (
    EfficientSelfAttention,
    MixTransformerBlock,
    MixTransformerStage,
    OverlappedPatchEmbedding,
    PatchConv2D,
)
from tests.checks import run_dynamic
from tests.helpers import fill, normal, numpy, refused, run, tensorflow_only
from tests.reference import assert_offseg, load_layer, offseg_inputs, offseg_state


def assert_reference(layer, name, place):
    """Compare a layer of the first stage, whose keys start with `place`."""
    x = offseg_inputs(name)["x"]
    state = {f"layers.0.{place}.{k}": v for k, v in offseg_state(name).items()}
    load_layer(layer, x.shape, "stage1", state, BACKBONE)
    assert_offseg(run(layer, x), f"{name}/out")


@pytest.mark.parametrize(
    ("name", "heads", "reduction"), [("mit_block_sr1", 4, 1), ("mit_block_sr4", 2, 4)]
)
def test_block_reproduces_the_authors_output(name, heads, reduction):
    block = MixTransformerBlock(heads, reduction, name="block0")
    assert_reference(block, name, "1.0")


def test_embedding_reproduces_the_authors_output():
    embedding = OverlappedPatchEmbedding(16, 7, 4, name="embedding")
    assert_reference(embedding, "mit_patch_embed", "0")


def patches(x, kernel, bias):
    """The convolution of whole patches as one product, in NumPy."""
    k, _, channels, filters = kernel.shape
    rows, columns = (n // k for n in x.shape[1:3])
    x = x[:, : rows * k, : columns * k].reshape(-1, rows, k, columns, k, channels)
    x = x.transpose(0, 1, 3, 2, 4, 5).reshape(-1, rows, columns, k * k * channels)
    return x @ kernel.reshape(-1, filters) + bias


# The last two have less than a patch: zeros fill them up.
@pytest.mark.parametrize("size", [(8, 12), (11, 7), (4, 9), (3, 9), (2, 1)])
def test_patches_are_whole_but_for_a_single_one(size):
    x = normal("features", (2, *size, 3))
    layer = PatchConv2D(5, 4)
    layer.build(x.shape)
    fill(layer)
    padding = [(0, 0), *((0, max(4 - n, 0)) for n in size), (0, 0)]
    expected = patches(np.pad(x, padding), *map(numpy, layer.weights))
    assert layer.compute_output_shape(x.shape) == expected.shape
    np.testing.assert_allclose(run(layer, x), expected, rtol=1e-4, atol=1e-5)


@tensorflow_only
@pytest.mark.parametrize("size", [(11, 7), (3, 9)])
def test_patches_are_the_same_in_a_graph_of_unknown_size(size):
    x = normal("features", (2, *size, 3))
    layer = PatchConv2D(5, 4)
    layer.build((None, None, None, 3))
    np.testing.assert_allclose(run_dynamic(layer, x), run(layer, x), rtol=1e-5)


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


@pytest.mark.parametrize("size", [(9, 14), (4, 3)])
@pytest.mark.parametrize("reduction", [1, 4])
def test_every_position_attends_to_the_cells_of_the_smaller_map(size, reduction):
    x = normal("features", (2, *size, 8))
    layer = EfficientSelfAttention(2, reduction)
    layer.build(x.shape)
    fill(layer)
    cells = run(layer.norm, run(layer.reduce, x)) if reduction > 1 else x
    projected = run(layer.query, x), *np.split(run(layer.key_value, cells), 2, -1)
    q, k, v = (y.reshape(2, -1, 2, 4).transpose(0, 2, 1, 3) for y in projected)
    y = softmax(q @ k.transpose(0, 1, 3, 2) / 2) @ v
    expected = run(layer.projection, y.transpose(0, 2, 1, 3).reshape(x.shape))
    np.testing.assert_allclose(run(layer, x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("reduction", "size", "keys"), [(1, (9, 14), 126), (4, (9, 14), 6), (8, (3, 9), 1)]
)
def test_attention_counts_its_two_products(reduction, size, keys):
    layer = EfficientSelfAttention(2, reduction)
    flops = 2 * 3 * size[0] * size[1] * keys * 8
    assert layer.attention_flops((3, *size, 8)) == flops


def test_heads_must_divide_the_channels():
    with refused("multiple of num_heads", "channels=32", "num_heads=5"):
        EfficientSelfAttention(5).build((None, None, None, 32))


def test_dropped_paths_leave_the_input(monkeypatch):
    x = normal("features", (2, 5, 7, 8))
    block = MixTransformerBlock(2, 2, drop_path_rate=0.5)
    block.build(x.shape)
    fill(block)
    assert block.drop_path.rate == 0.5
    monkeypatch.setattr(block.drop_path, "call", lambda y, training: y * (not training))
    np.testing.assert_array_equal(run(partial(block, training=True), x), x)
    assert abs(run(block, x) - x).max() > 0.1


def test_weights_start_as_mmsegmentation_draws_them():
    stage = MixTransformerStage(64, 1, 2, 2, kernel_size=7, strides=4)
    stage.build((None, None, None, 3))
    found = {w.path.partition("/")[2]: numpy(w).std() for w in stage.weights}
    expected = {
        "embedding/convolution/kernel": (2 / (49 * 64)) ** 0.5,
        "block0/attention/query/kernel": 0.02,
        "block0/attention/reduce/kernel": (2 / (4 * 64)) ** 0.5,
        "block0/feed_forward/expand/kernel": (2 / 256) ** 0.5,
        "block0/feed_forward/convolution/kernel": (2 / 9) ** 0.5,
        "block0/feed_forward/contract/kernel": (2 / 64) ** 0.5,
    }
    for path, deviation in expected.items():
        assert found[path] == pytest.approx(deviation, rel=0.15), path
    assert not any(numpy(w).any() for w in stage.weights if w.name == "bias")


def test_epsilon_is_that_of_every_layer_normalization():
    stage = MixTransformerStage(8, 2, 2, 2, epsilon=1e-5)
    norms = [
        layer
        for layer in stage._flatten_layers()
        if isinstance(layer, keras.layers.LayerNormalization)
    ]
    stage.build((None, None, None, 3))
    assert {norm.epsilon for norm in norms} == {1e-5}
