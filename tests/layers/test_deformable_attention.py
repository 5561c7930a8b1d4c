from functools import partial

import keras
import numpy as np
import pytest
from keras import ops

from keras_lrseg.layers import MultiScaleDeformableAttention
from tests.checks import random_sum
from tests.helpers import (
    fill,
    loss_and_gradients,
    normal,
    numpy,
    refused,
    run,
    saved_and_loaded,
    tensorflow_only,
    tensors,
)

SIZES = [(2, 3), (4, 5), (7, 9)]
CHANNELS, TOKENS, BATCH = 8, 11, 2
SHAPES = [
    (BATCH, TOKENS, CHANNELS),
    (1, TOKENS, 2),
    *[(BATCH, *size, CHANNELS) for size in SIZES],
]
# Kernel and bias of each of our linear maps, and transformers' name for it.
NAMES = {
    "offset": "sampling_offsets",
    "attention": "attention_weights",
    "value": "value_proj",
    "projection": "output_proj",
}
small = partial(MultiScaleDeformableAttention, num_heads=2, num_points=3)


def inputs():
    """Tokens, positions in and a little outside of the maps, and the maps."""
    queries, positions, *maps = (normal(f"deformable {s}", s) for s in SHAPES)
    return [queries, 0.5 + 0.4 * positions, *maps]


def filled(**settings):
    layer = small(**settings)
    layer.build(SHAPES)
    return fill(layer)


def functional():
    """A model for any number of tokens and maps of any size."""
    shapes = [(None, CHANNELS), (None, 2), *[(None, None, CHANNELS)] * 3]
    x = [keras.Input(shape) for shape in shapes]
    return fill(keras.Model(x, small()(x)))


def transformers_layer(layer):
    transformers = pytest.importorskip("transformers.models.mask2former")
    torch = pytest.importorskip("torch")
    kind = "Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention"
    theirs = getattr(transformers.modeling_mask2former, kind)(CHANNELS, 2, 3, 3)
    with torch.no_grad():
        for own, name in NAMES.items():
            kernel, bias = map(numpy, getattr(layer, own).weights)
            getattr(theirs, name).weight.copy_(torch.tensor(kernel.T))
            getattr(theirs, name).bias.copy_(torch.tensor(bias))
    return theirs


def test_output_and_gradients_are_those_of_transformers():
    layer, x = filled(), inputs()
    theirs = transformers_layer(layer)
    import torch

    queries, positions, *maps = map(torch.tensor, x)
    expected, _ = theirs(
        queries,
        encoder_hidden_states=torch.cat([m.flatten(1, 2) for m in maps], dim=1),
        reference_points=positions[:, :, None].expand(BATCH, -1, len(SIZES), -1),
        spatial_shapes_list=SIZES,
    )
    (expected * torch.tensor(normal("factors", expected.shape))).sum().backward()
    expected = expected.detach().numpy()
    assert abs(run(layer, x) - expected).max() <= 1e-5 * expected.std()
    _, gradients = loss_and_gradients(layer, random_sum, x)
    for weight, gradient in zip(layer.trainable_weights, gradients, strict=True):
        *_, own, leaf = weight.path.split("/")
        other = getattr(
            getattr(theirs, NAMES[own]), {"kernel": "weight"}.get(leaf, leaf)
        )
        other = other.grad.numpy().T
        assert abs(gradient - other).max() <= 1e-4 * other.std(), weight.path


def test_model_is_saved_and_half_precision_is_close():
    model, x = functional(), inputs()
    x[1] = np.repeat(x[1], BATCH, axis=0)
    expected = run(model, x)
    np.testing.assert_array_equal(run(saved_and_loaded(model), x), expected)
    for policy in ("mixed_bfloat16", "mixed_float16"):
        half = run(filled(dtype=policy), [ops.cast(a, policy[6:]) for a in x])
        assert str(half.dtype) == policy[6:]
        assert abs(half.astype("float32") - expected).max() <= 0.1 * expected.std()


@tensorflow_only
def test_sizes_may_be_unknown():
    import tensorflow as tf

    layer, x = filled(), inputs()
    unknown = [tf.TensorSpec([None] * (a.ndim - 1) + [a.shape[-1]]) for a in x]
    output = tf.function(layer, input_signature=[unknown])(tensors(x))
    np.testing.assert_allclose(output, run(layer, x), 1e-4, 1e-5)


def test_nothing_is_read_outside_of_the_maps():
    layer = filled()
    layer.offset.bias.assign(np.zeros(layer.offset.bias.shape))
    layer.offset.kernel.assign(np.zeros(layer.offset.kernel.shape))
    queries, _, *maps = inputs()
    bias = numpy(layer.projection.bias)
    for position in (-1.0, 2.0, 1e20, np.nan):
        positions = np.full((1, TOKENS, 2), position, "float32")
        output = run(layer, [queries, positions, *maps])
        np.testing.assert_array_equal(output, np.broadcast_to(bias, output.shape))


def test_heads_start_by_looking_into_directions_of_their_own():
    layer = MultiScaleDeformableAttention(4, 2)
    layer.build(SHAPES)
    offsets = numpy(layer.offset.bias).reshape(4, 3, 2, 2)
    for level in range(3):
        for k in range(2):
            expected = (k + 1) * np.array([[1, 0], [0, 1], [-1, 0], [0, -1]])
            np.testing.assert_allclose(offsets[:, level, k], expected, atol=1e-6)
    assert not numpy(layer.offset.kernel).any()
    assert not numpy(layer.attention.kernel).any()


def test_samples_are_counted():
    expected = 4 * BATCH * TOKENS * CHANNELS * 3 * 3
    assert small().attention_flops(SHAPES) == expected


def test_inputs_that_do_not_fit_are_refused():
    with refused("multiple of num_heads", "channels=8", "num_heads=3"):
        small(num_heads=3).build(SHAPES)
    with refused("8 channels", "[8, 8, 6]"):
        small().build([*SHAPES[:-1], (BATCH, 7, 9, 6)])
    with refused("one map or more", "[]"):
        small().build(SHAPES[:2])
