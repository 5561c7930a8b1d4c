"""Classified masks to logits per class, any size, and the way to every prediction."""

import functools
from unittest import mock

import keras
import numpy as np
import pytest
from keras import tree

from keras_lrseg import MaskClassificationSegmenter
from keras_lrseg.backbones import LRFormerBackbone
from keras_lrseg.decoders import DeformablePixelDecoder, MaskedAttentionDecoder
from keras_lrseg.models.mask_segmenter import ClassesOfMasks
from keras_lrseg.training import MaskClassificationLoss
from tests.checkpoints import test_mask2former
from tests.checks import run_dynamic
from tests.helpers import (
    as_json,
    assert_same_model,
    images,
    loss_and_gradients,
    normal,
    numpy,
    run,
    saved_and_loaded,
    slow_on_jax,
    tensorflow_only,
)
from tests.reference import load_state
from tests.tiny import TINY, filled

SIZE = (33, 47)


def tiny(dtype=None, **settings):
    return MaskClassificationSegmenter(
        LRFormerBackbone(**TINY, dtype=dtype),
        DeformablePixelDecoder(
            64, depth=1, num_heads=2, num_points=2, hidden_channels=32, dtype=dtype
        ),
        MaskedAttentionDecoder(
            4,
            num_queries=5,
            depth=3,
            num_heads=2,
            hidden_channels=32,
            dtype=dtype,
        ),
        **settings,
    )


@functools.cache
def shared():
    return filled(lambda: tiny(classes=list("abcd"), palette=[(0, 1, 2)] * 4))


def pictures(dtype="uint8"):
    """RGB 0..255 as a file holds them."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (2, *SIZE, 3)).astype(dtype)


@pytest.mark.parametrize("size", [(32, 32), SIZE])
def test_logits_have_the_size_of_the_images(size):
    logits = run(shared(), 255 * images(0, *size))
    assert logits.shape == (1, *size, 4)
    assert logits.dtype == "float32"
    assert logits.std() > 0


@tensorflow_only
def test_graph_of_unknown_size_gives_the_same_logits():
    logits, expected = run_dynamic(shared(), pictures()), run(shared(), pictures())
    assert abs(logits - expected).max() <= 1e-3 * expected.std()


def test_logits_are_the_sum_of_classes_times_masks():
    classes, masks = normal("classes", (2, 5, 4)), normal("masks", (2, 3, 6, 5))
    layer = ClassesOfMasks()
    logits = run(layer, [classes, masks])
    weights = np.exp(classes)
    weights = (weights / weights.sum(-1, keepdims=True))[..., :3]
    expected = np.einsum("bqk,bhwq->bhwk", weights, 1 / (1 + np.exp(-masks)))
    np.testing.assert_allclose(logits, expected, rtol=1e-5)
    shapes = [classes.shape, masks.shape]
    assert layer.compute_output_shape(shapes) == (2, 3, 6, 3)


def test_masks_are_enlarged_before_they_are_summed():
    torch = pytest.importorskip("torch")
    classes, masks = normal("classes", (1, 5, 4)), 9 * normal("masks", (1, 3, 6, 5))
    like = np.zeros((1, 7, 11, 3), "float32")
    enlarged = torch.nn.functional.interpolate(
        torch.tensor(masks).permute(0, 3, 1, 2), (7, 11), mode="bilinear"
    )
    expected = run(ClassesOfMasks(), [classes, enlarged.permute(0, 2, 3, 1).numpy()])
    logits = run(ClassesOfMasks(), [classes, masks, like])
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


@slow_on_jax
def test_every_prediction_is_at_hand_for_deep_supervision():
    model = shared()
    every = keras.Model(model.input, model.predictions)
    predictions = run(every, pictures())
    assert len(predictions) == 1 + 3
    for classes, masks in predictions:
        assert classes.shape == (2, 5, 4 + 1)
        assert masks.shape == (2, 9, 12, 5)
    like = np.zeros((2, *SIZE, 3), "float32")
    logits = run(ClassesOfMasks(), [*predictions[-1], like])
    expected = run(model, pictures())
    assert abs(logits - expected).max() <= 1e-4 * expected.std()


@slow_on_jax
def test_loss_and_gradients_are_those_of_transformers():
    theirs, ours = test_mask2former.transformers_model(), filled(test_mask2former.tiny)
    torch = pytest.importorskip("torch")
    load_state(ours, {k: v.numpy() for k, v in theirs.state_dict().items()})
    x = images(0, 64, 96, batch=3)
    cells = np.random.default_rng(0).integers(0, test_mask2former.CLASSES, (3, 4, 6))
    cells[0, 1], cells[1, :, 2:], cells[2] = 255, 5, 255  # the last is not labelled
    labels = cells.repeat(16, axis=1).repeat(16, axis=2)

    loss = MaskClassificationLoss(num_points=200)
    points = np.random.default_rng(1).random((sum(loss.parts), 2)).astype("float32")
    of_size = dict(
        zip(loss.parts, np.split(points, np.cumsum(loss.parts)[:-1]), strict=True)
    )

    def rand(masks, count, _, device):
        return torch.from_numpy(of_size[count]).repeat(masks, 1, 1)

    theirs.criterion.num_points = theirs.criterion.matcher.num_points = 200
    classes = [np.setdiff1d(image, [255]) for image in labels]
    shown = zip(labels, classes, strict=True)
    masks = [np.equal.outer(own, image).astype("float32") for image, own in shown]
    with mock.patch.object(torch, "rand", rand):
        expected = theirs(
            torch.from_numpy(x.transpose(0, 3, 1, 2)),
            mask_labels=[torch.from_numpy(m) for m in masks],
            class_labels=[torch.from_numpy(own) for own in classes],
        ).loss
    expected.backward()
    # Gradients under the weights' names, so that a second model takes them.
    gradients = {
        name: np.zeros(w.shape, "float32") if w.grad is None else w.grad.numpy()
        for name, w in theirs.named_parameters()
    }
    other = load_state(filled(test_mask2former.tiny), gradients)

    every = keras.Model(ours.input, ours.predictions)
    everywhere = np.broadcast_to(points, (3, *points.shape))
    with mock.patch.object(keras.random, "uniform", return_value=everywhere):
        value, own = loss_and_gradients(every, lambda y: loss(labels, y), x)
    assert value == pytest.approx(expected.item(), rel=1e-4)
    norms = [np.linalg.norm(numpy(w)) for w in other.trainable_weights]
    for weight, a, norm in zip(other.trainable_weights, own, norms, strict=True):
        error = np.linalg.norm(a - numpy(weight))
        assert error <= 0.01 * norm + 1e-5 * max(norms), weight.path


def test_logits_may_stay_at_the_stride_of_the_masks():
    small = MaskClassificationSegmenter(
        shared().backbone,
        shared().pixel_decoder,
        shared().mask_decoder,
        upsample=False,
        activation="softmax",
    )
    probabilities = run(small, pictures())
    assert probabilities.shape == (2, 9, 12, 4)
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, rtol=1e-5)


def test_config_and_file_give_the_same_model():
    model = shared()
    again = MaskClassificationSegmenter.from_config(as_json(model.get_config()))
    assert as_json(again.get_config()) == as_json(model.get_config())
    again = saved_and_loaded(model)
    assert_same_model(again, model)
    assert again.classes == list("abcd")
    np.testing.assert_array_equal(run(again, pictures()), run(model, pictures()))


def test_half_precision_gives_float32_logits():
    model = filled(lambda: tiny("mixed_bfloat16"))
    assert model.dtype_policy.name == "mixed_bfloat16"
    assert {str(x.dtype) for x in tree.flatten(model.predictions)} == {"bfloat16"}
    logits = run(model, pictures())
    assert logits.dtype == "float32"
    assert np.isfinite(logits).all()


def test_model_that_is_no_pyramid_is_refused():
    x = keras.Input((None, None, 3))
    with pytest.raises(ValueError, match="pyramid_outputs"):
        MaskClassificationSegmenter(
            keras.Model(x, keras.layers.Identity()(x)),
            DeformablePixelDecoder(),
            MaskedAttentionDecoder(4),
        )
