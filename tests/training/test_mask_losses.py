"""The loss of masks: points, and what happens to images out of the ordinary."""

from unittest import mock

import keras
import numpy as np
import pytest
from keras import ops

from keras_lrseg.training import MaskClassificationLoss
from keras_lrseg.training.point_sampling import (
    most_uncertain,
    read_classes,
    read_maps,
)
from tests.helpers import normal, run

K, QUERIES = 6, 4  # more classes than queries
POINTS = 40
SIZE = (11, 15)


def labels_of(*classes):
    """Images of columns, each of a class; a row is ignored."""
    labels = np.full((len(classes), *SIZE), 255, "uint8")
    for image, shown in zip(labels, classes, strict=True):
        left = 0
        for i, label in enumerate(shown):
            right = SIZE[1] if i + 1 == len(shown) else left + 5 - i
            image[1:, left:right] = label
            left = right
    return labels


def predictions_of(*names):
    """For two images each."""
    return [
        [
            normal(f"{name} classes", (2, QUERIES, K + 1)),
            3 * normal(f"{name} masks", (2, 5, 7, QUERIES)),
        ]
        for name in names
    ]


def points_of(images, count=30):
    return np.random.default_rng(2).random((images, count, 2)).astype("float32")


def compiled(x):
    """The loss of labels and predictions at points: one function, compiled once."""
    labels, predictions, points = x
    with mock.patch.object(keras.random, "uniform", return_value=points):
        return MaskClassificationLoss(num_points=POINTS)(labels, predictions)


def loss_of(labels, predictions, centres=False):
    """The loss at always the same points, or at the centres of pixels."""
    points = points_of(2, 170)
    if centres:
        points = (np.floor(points * SIZE[::-1]) + 0.5) / SIZE[::-1]
    return run(compiled, [labels, predictions, points.astype("float32")])


def test_maps_are_read_as_pytorch_reads_them():
    torch = pytest.importorskip("torch")
    maps, where = normal("maps", (2, 5, 7, 3)), points_of(2)
    expected = torch.nn.functional.grid_sample(
        torch.tensor(maps).permute(0, 3, 1, 2),
        2 * torch.tensor(where)[:, None] - 1,
        align_corners=False,
    )
    read = run(lambda x: read_maps(*x), [maps, where])
    expected = expected[:, :, 0].swapaxes(1, 2)
    np.testing.assert_allclose(read, expected, rtol=1e-4, atol=1e-5)


def test_classes_are_read_as_their_masks():
    labels = labels_of((1, 5, 3), (0, 2)).astype("int32")
    classes = np.array([[1, 5, 3], [2, 0, 4]], "int32")
    masks = (labels[..., None] == classes[:, None, None]).astype("float32")
    where = points_of(2)
    expected = run(lambda x: read_maps(*x), [masks, where])
    read = run(lambda x: read_classes(*x), [labels, where, classes])
    assert read[1, 2].max() == 0 < read[1, 1].max()
    np.testing.assert_allclose(read, expected.swapaxes(1, 2), rtol=1e-5, atol=1e-6)


def test_points_nearest_to_zero_are_kept_with_what_belongs_to_them():
    logits = normal("logits", (2, 3, 20))
    logits, targets = logits[:, None] * [[[1]], [[0.5]]], 2 * logits
    logits = logits.astype("float32")
    kept, others = run(lambda x: most_uncertain(*x, count=5), [logits, targets])
    nearest = np.sort(abs(logits), axis=-1)[..., :5]
    np.testing.assert_array_equal(np.sort(abs(kept), axis=-1), nearest)
    np.testing.assert_array_equal(others[:, 0], 2 * kept[:, 0])
    np.testing.assert_array_equal(others[:, 1], 4 * kept[:, 1])


def test_loss_falls_to_zero_for_right_masks_and_classes():
    labels = labels_of((2, 1), (2, 1))
    classes = np.zeros((2, QUERIES, K + 1), "float32")
    masks = np.full((2, *SIZE, QUERIES), -40, "float32")
    classes[:, [0, 2], -1] = 40
    for query, label in ((1, 2), (3, 1)):
        classes[:, query, label] = 40
        masks[labels == label, query] = 40
    assert 0 <= loss_of(labels, [[classes, masks]], centres=True) < 1e-4
    assert loss_of(labels, [[classes, masks[..., ::-1]]], centres=True) > 10


def test_image_without_a_labelled_pixel_has_the_term_of_no_object_alone():
    labels = labels_of((), ())
    (classes, masks), *_ = predictions = predictions_of("a")
    weights = np.exp(classes)
    share = weights[..., -1] / weights.sum(axis=-1)
    np.testing.assert_allclose(
        loss_of(labels, predictions), 2 * -np.log(share).mean(), rtol=1e-5
    )
    assert loss_of(labels, [[classes, 2 * masks]]) == loss_of(labels, predictions)


def test_of_more_classes_than_queries_the_largest_take_part():
    labels, predictions = labels_of((5, 3, 0, 1, 2), (4,)), predictions_of("a")
    small = np.where(labels == 2, 255, labels)
    sizes = np.bincount(labels[0].ravel())[[5, 3, 0, 1, 2]]
    assert (np.diff(sizes) < 0).all()
    assert loss_of(labels, predictions) == loss_of(small, predictions)
    assert loss_of(labels, predictions) != loss_of(labels_of((5,), (4,)), predictions)


@pytest.mark.parametrize("label", [K, 254])
def test_label_that_is_no_class_makes_the_loss_nan(label):
    labels, predictions = labels_of((0, 1), (2,)), predictions_of("a")
    assert np.isfinite(loss_of(labels, predictions))
    labels[0, 3, 3] = label
    assert np.isnan(loss_of(labels, predictions))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_predictions_have_a_float32_loss(dtype):
    labels = labels_of((0, 1), (2,))
    half = keras.tree.map_structure(
        lambda x: ops.cast(100 * x, dtype), predictions_of("a")
    )
    rounded = keras.tree.map_structure(
        lambda x: ops.convert_to_numpy(ops.cast(x, "float32")), half
    )
    loss = loss_of(labels, half)
    assert loss.dtype == "float32"
    np.testing.assert_allclose(loss, loss_of(labels, rounded), rtol=1e-5)


def test_points_come_from_the_seed():
    first, same = (keras.random.SeedGenerator(3) for _ in range(2))
    labels = np.zeros((2, 3, 3), "uint8")
    loss = MaskClassificationLoss(num_points=POINTS)
    with mock.patch.object(loss, "call", side_effect=lambda _, y_pred: y_pred[0]):
        values = [float(loss(labels, [], seed=s)) for s in (first, first, same)]
    assert values[0] == values[2] != values[1]


@pytest.mark.parametrize(
    "settings", [{"num_points": 0}, {"oversampling": 0.5}, {"importance": 2}]
)
def test_impossible_points_are_refused(settings):
    with pytest.raises(ValueError, match=r"importance in 0\.\.1. Received"):
        MaskClassificationLoss(**settings)


def test_weights_of_samples_are_refused():
    with pytest.raises(ValueError, match="takes no sample_weight"):
        MaskClassificationLoss()(labels_of((0,), (1,)), predictions_of("a"), [1.0])


def test_logits_of_pixels_are_refused():
    with pytest.raises(
        ValueError, match=r"For logits of pixels .* shape \(2, 3, 3, 5\)"
    ):
        MaskClassificationLoss()(labels_of((0,), (1,)), np.zeros((2, 3, 3, 5)))


def test_config_round_trip():
    loss = MaskClassificationLoss(mask_weight=3.0, num_points=7, ignore_class=0)
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert type(again) is MaskClassificationLoss
    assert again.get_config() == loss.get_config()
    assert again.parts == (7, 21, 2)
