import json

import numpy as np
import pytest
import sklearn.metrics
from sklearn.metrics import jaccard_score, recall_score

from keras_lrseg.evaluation import Scores, confusion_matrix

K = 7
NAMES = ("road", "sky", "a long class name", "car", "dog", "cat", "absent")
ABSENT = 6


@pytest.fixture
def maps():
    """Truth and prediction in six of the seven classes, and their labelled pixels."""
    rng = np.random.default_rng(0)
    truth = rng.choice([0, 1, 2, 3, 4, 5, 255], (31, 45)).astype("uint8")
    wrong = rng.integers(0, ABSENT, truth.shape)
    predicted = np.where(rng.random(truth.shape) < 0.4, wrong, truth % 6)
    truth[truth == 5] = 4  # predicted, but never there
    valid = truth != 255
    return truth, predicted.astype("uint8"), truth[valid], predicted[valid]


@pytest.fixture
def scores(maps):
    truth, predicted, *_ = maps
    return Scores(confusion_matrix(truth, predicted, K), NAMES)


def test_confusion_matrix_is_scikit_learns(maps, scores):
    expected = sklearn.metrics.confusion_matrix(*maps[2:], labels=range(K))
    np.testing.assert_array_equal(scores.confusion, expected)
    assert scores.confusion.dtype == np.int64


def test_another_label_can_be_ignored():
    counts = confusion_matrix(np.array([0, 1, 1]), np.array([0, 0, 1]), 2, ignore=0)
    assert counts.tolist() == [[0, 0], [1, 1]]


def test_iou_and_accuracy_are_scikit_learns_and_nan_where_nothing_is(maps, scores):
    settings = {"labels": range(K), "average": None, "zero_division": 0}
    iou = jaccard_score(*maps[2:], **settings)
    assert iou[5] == 0  # predicted in vain
    iou[6] = np.nan
    np.testing.assert_allclose(scores.iou, iou)
    accuracy = recall_score(*maps[2:], **settings)
    accuracy[5:] = np.nan  # there is none to find
    np.testing.assert_allclose(scores.accuracy, accuracy)


def test_means_leave_out_classes_without_a_value(maps, scores):
    truth, predicted = maps[2:]
    iou = jaccard_score(truth, predicted, labels=range(6), average="macro")
    assert scores.miou == pytest.approx(iou)
    accuracy = recall_score(truth, predicted, labels=range(5), average="macro")
    assert scores.mean_accuracy == pytest.approx(accuracy)
    assert scores.pixel_accuracy == pytest.approx((truth == predicted).mean())


def test_constant_miou_is_that_of_the_most_frequent_class_everywhere(maps, scores):
    truth = maps[2]
    constant = np.full_like(truth, np.bincount(truth).argmax())
    expected = jaccard_score(truth, constant, labels=range(5), average="macro")
    assert scores.constant_miou == pytest.approx(expected)


def test_table_holds_every_class_and_the_means(scores):
    head, *rows, means = str(scores).splitlines()
    assert head.split() == ["class", "IoU", "acc.", "share"]
    total = scores.confusion.sum()
    for i, (name, row) in enumerate(zip(NAMES, rows, strict=True)):
        share = scores.confusion[i].sum() / total
        expected = [f"{x:.3f}" for x in (scores.iou[i], scores.accuracy[i], share)]
        assert row.startswith(name)
        assert row.removeprefix(name).split() == expected
    assert len({len(row) for row in rows}) == 1
    for mean in (scores.miou, scores.mean_accuracy, scores.pixel_accuracy):
        assert f"{mean:.4f}" in means


def test_json_has_null_where_a_class_has_no_value(scores):
    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    result = json.loads(scores.to_json(), parse_constant=refuse)
    assert result["miou"] == pytest.approx(scores.miou, abs=1e-6)
    assert result["mean_accuracy"] == pytest.approx(scores.mean_accuracy, abs=1e-6)
    assert result["pixel_accuracy"] == pytest.approx(scores.pixel_accuracy, abs=1e-6)
    assert list(result["classes"]) == list(NAMES)
    assert result["classes"]["absent"] == {"iou": None, "accuracy": None, "pixels": 0}
    pixels = [entry["pixels"] for entry in result["classes"].values()]
    assert pixels == scores.confusion.sum(1).tolist()
    assert result["classes"]["car"]["iou"] == pytest.approx(scores.iou[3], abs=1e-6)


def test_nothing_labelled_has_no_scores_and_no_error():
    truth = np.full((4, 4), 255, "uint8")
    scores = Scores(confusion_matrix(truth, np.zeros((4, 4), "uint8"), 2), ("a", "b"))
    means = (scores.miou, scores.mean_accuracy, scores.pixel_accuracy)
    assert np.isnan(means).all()
    assert json.loads(scores.to_json())["miou"] is None
    assert "nan" in str(scores)


def test_counts_beyond_float32_stay_exact():
    confusion = np.array([[2**40 + 1, 0], [1, 2**40]])
    scores = Scores(confusion, ("a", "b"))
    assert scores.pixel_accuracy < 1
    assert json.loads(scores.to_json())["classes"]["a"]["pixels"] == 2**40 + 1


def test_maps_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 3\) and \(3, 2\)"):
        confusion_matrix(np.zeros((2, 3), "uint8"), np.zeros((3, 2), "uint8"), 2)


@pytest.mark.parametrize("wrong", [-1, 3, 254])
@pytest.mark.parametrize("side", ["truth", "predicted"])
def test_labels_outside_the_classes_are_refused(side, wrong):
    maps = {"truth": np.array([1, 2, 2]), "predicted": np.array([1, 2, 0])}
    maps[side][1] = wrong
    with pytest.raises(ValueError, match=rf"below 3.* {wrong}$"):
        confusion_matrix(**maps, num_classes=3)


def test_an_ignored_label_in_the_prediction_is_refused():
    with pytest.raises(ValueError, match="Received: 255"):
        confusion_matrix(np.array([0, 1]), np.array([0, 255]), 2)
