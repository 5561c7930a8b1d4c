"""Mask2Former's decoder: the authors' prediction head, masks, and any size."""

from functools import partial

import keras
import numpy as np
import pytest
from keras import tree

from keras_lrseg.checkpoints.mask2former import MASK_DECODER
from keras_lrseg.decoders import MaskedAttentionDecoder
from keras_lrseg.decoders.masked_attention_decoder import (
    MaskHead,
    MultiHeadAttention,
    where_predicted,
)
from tests.checks import inputs_of, random_sum, run_dynamic
from tests.helpers import (
    assert_same_weights,
    fill,
    loss_and_gradients,
    no_weights,
    normal,
    pairs,
    refused,
    run,
    saved_and_loaded,
    tensorflow_only,
)
from tests.reference import (
    assert_offseg,
    load_layer,
    manifest,
    offseg_inputs,
    offseg_state,
)

SHAPES = [(2, 9, 14, 8), (2, 2, 2, 8), (2, 3, 4, 8), (2, 5, 7, 8)]
LARGER = [(2, 12, 9, 8), (2, 3, 2, 8), (2, 5, 5, 8), (2, 6, 8, 8)]
small = partial(
    MaskedAttentionDecoder, 4, num_queries=5, depth=3, num_heads=2, hidden_channels=12
)


def functional(layer):
    inputs = [keras.Input((None, None, 8)) for _ in SHAPES]
    return fill(keras.Model(inputs, layer(inputs)))


@pytest.mark.parametrize("shapes", [SHAPES, LARGER])
def test_every_prediction_has_classes_and_masks_of_any_size(shapes):
    layer = small(offset=True)
    outputs = run(functional(layer), inputs_of(shapes))
    assert len(outputs) == 1 + 3
    for classes, masks in outputs:
        assert classes.shape == (2, 5, 4 + 1)
        assert masks.shape == (*shapes[0][:3], 5)
    assert tree.map_structure(np.shape, outputs) == layer.compute_output_shape(shapes)


@tensorflow_only
def test_sizes_may_be_unknown():
    model, x = functional(small()), inputs_of(SHAPES)
    for a, b in pairs(run_dynamic(model, x), run(model, x)):
        np.testing.assert_allclose(a, b, 1e-3, 1e-4)


def test_config_and_file_give_the_same_layer():
    layer = small(depth=1, offset=True)
    model, x = functional(layer), inputs_of(SHAPES)
    again = functional(type(layer).from_config(layer.get_config()))
    assert again.layers[-1].get_config() == layer.get_config()
    assert_same_weights(again, model)
    for a, b in pairs(run(saved_and_loaded(model), x), run(model, x)):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_is_close_as_long_as_masks_agree(policy):
    x = inputs_of(SHAPES)
    (classes, masks), *_ = run(functional(small(depth=1)), x)
    outputs = run(functional(small(depth=1, dtype=policy)), x)
    assert {str(a.dtype) for a in tree.flatten(outputs)} == {policy[6:]}
    assert all(np.isfinite(a.astype("float32")).all() for a in tree.flatten(outputs))
    for half, a in zip(outputs[0], (classes, masks), strict=True):
        assert abs(half.astype("float32") - a).max() <= 0.1 * a.std()


def test_every_weight_learns_from_all_predictions():
    model = functional(small(offset=True))
    _, gradients = loss_and_gradients(model, random_sum, inputs_of(SHAPES))
    for weight, gradient in zip(model.trainable_weights, gradients, strict=True):
        assert np.isfinite(gradient).all(), weight.path
        # The same for all keys: the softmax does not see it.
        if not weight.path.endswith("/key/bias"):
            assert np.any(gradient), weight.path


def test_prediction_head_is_the_authors():
    name = "m2f_forward_head"
    queries, features = offseg_inputs(name).values()
    shapes = [queries.shape, features.shape]
    head = MaskHead(7, offset=True, name="head")
    state = MASK_DECODER.used(offseg_state(name))
    # In a decoder the head's variables lie under its name.
    names = type(MASK_DECODER)((r"^", "head/"), *MASK_DECODER.rules)
    load_layer(head, shapes, "", state, names)
    classes, masks = run(head, [queries, features])
    # Not a map: without `assert_offseg`'s change of layout.
    assert_offseg(classes, f"{name}/cls_pred")
    assert_offseg(masks, f"{name}/mask_pred")

    looks = run(lambda x: where_predicted(x, (8, 12)), masks)
    blocked = ~np.repeat(looks, 2, axis=0)  # for each of two heads
    assert_offseg(blocked.astype("float32"), f"{name}/attn_mask")


def test_queries_look_at_their_masks_or_if_there_is_none_everywhere():
    masks = np.full((1, 2, 3, 3), -1.0, "float32")
    masks[0, 1, 2, 0] = 2.0
    masks[0, :, 0, 1] = 0.0  # one half: not below it
    looks = run(lambda x: where_predicted(x, (2, 3)), masks)
    np.testing.assert_array_equal(
        looks[0], [[0, 0, 0, 0, 0, 1], [1, 0, 0, 1, 0, 0], [1, 1, 1, 1, 1, 1]]
    )


def test_attention_without_what_is_masked_is_attention_to_the_rest():
    queries, keys, values = (
        normal(f"attention {i}", (2, n, 8)) for i, n in enumerate((3, 6, 6))
    )
    layer = MultiHeadAttention(2)
    layer.build([queries.shape, keys.shape, values.shape])
    fill(layer)
    mask = np.broadcast_to(np.arange(6) < 4, (2, 3, 6))
    masked = run(layer, [queries, keys, values, mask])
    rest = run(layer, [queries, keys[:, :4], values[:, :4]])
    np.testing.assert_allclose(masked, rest, 1e-4, 1e-5)
    assert abs(masked - run(layer, [queries, keys, values])).max() > 0.01
    assert layer.attention_flops([x.shape for x in (queries, keys, values)]) == (
        2 * 2 * 3 * 6 * 8
    )


@pytest.mark.parametrize(("offset", "more"), [(False, 0), (True, 131_072)])
def test_parameters_are_those_of_the_published_decoder(offset, more):
    published = sum(
        np.prod(shape)
        for key, shape in manifest("mask2former_swin_t_ol").items()
        if key.startswith("decode_head.") and "pixel_decoder" not in key
    )
    with no_weights():
        decoder = MaskedAttentionDecoder(150, offset=offset)
        decoder.build([(None, None, None, 256)] * 4)
    assert decoder.count_params() == published - 131_072 + more


def test_inputs_that_do_not_fit_are_refused():
    with refused("three maps", "[8, 8, 8]"):
        small().build(SHAPES[:3])
    with refused("as many channels", "[8, 8, 8, 6]"):
        small().build([*SHAPES[:3], (2, 5, 7, 6)])
    with refused("multiple of num_heads", "channels=8", "num_heads=3"):
        small(num_heads=3).build(SHAPES)


@pytest.mark.parametrize(
    "settings", [{"num_classes": 0}, {"num_classes": 2.5}, {"num_queries": 0}]
)
def test_decoder_without_classes_or_queries_is_refused(settings):
    ((name, value),) = settings.items()
    with refused("one class or more", f"{name}={value}"):
        MaskedAttentionDecoder(**{"num_classes": 4, **settings})


def test_documentation_has_the_patent_notice():
    assert "Patent notice" in MaskedAttentionDecoder.__doc__
