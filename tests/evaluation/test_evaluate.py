"""Scores of images and of groups of classes."""

import csv
import io
import json

import numpy as np
import pytest

from keras_lrseg import evaluation
from keras_lrseg.evaluation import Evaluation, Scores, confusion_matrix, evaluate
from tests.evaluation.cases import Blocks, picture


def dataset(masks):
    class Pairs:
        classes = tuple("abcde")

        def __len__(self):
            return len(masks)

        def __getitem__(self, i):
            return picture(masks[i].shape), masks[i]

    return Pairs()


@pytest.fixture(scope="module")
def masks():
    rng = np.random.default_rng(0)
    masks = [rng.choice([0, 1, 2, 3, 255], s) for s in ((40, 50), (64, 33), (48, 48))]
    masks[0][:, 25:], masks[1][10:, :] = 0, 1
    masks[2][masks[2] == 3] = 255
    masks.append(np.full((33, 40), 255))
    return [mask.astype("uint8") for mask in masks]


@pytest.fixture(scope="module")
def result(masks):
    return evaluate(Blocks(), dataset(masks))


def made(mean_share, image_miou=(0.5,)):
    """An evaluation of seven classes and "rest"; class i has the IoU (i + 1) / 10."""
    confusion = np.zeros((8, 8), "int64")
    confusion[range(7), range(7)] = range(1, 8)
    confusion[range(7), 7] = range(9, 2, -1)  # taken for "rest"
    settings = evaluation.TestSettings()
    shares, values = np.array([*mean_share, np.nan]), np.array(image_miou)
    names = tuple(f"{i}.png" for i in range(len(values)))
    return Evaluation(confusion, (*"abcdefg", "rest"), names, values, shares, settings)


def test_share_is_the_mean_over_the_images_that_show_a_class(masks, result):
    for label in range(4):
        shares = [(m == label).sum() / (m < 255).sum() for m in masks[:3]]
        expected = np.mean([share for share in shares if share])
        assert result.mean_share[label] == pytest.approx(expected)
    assert np.isnan(result.mean_share[4])


def test_each_image_has_its_own_miou(masks, result):
    for mask, value in zip(masks[:3], result.image_miou[:3], strict=True):
        labels = evaluation.predict_labels(Blocks(), picture(mask.shape))
        counts = confusion_matrix(mask, labels, 5)
        assert value == Scores(counts, tuple("abcde")).miou
    assert np.isnan(result.image_miou[3])  # nothing is labelled


def test_settings_are_used_and_kept(masks):
    settings = evaluation.TestSettings(window=(32, 32), stride=(20, 20))
    model = Blocks()
    result = evaluate(model, dataset(masks[2:3]), settings)
    assert model.sizes == [(32, 32)] * 4
    written = json.loads(result.to_json())["settings"]
    assert written["window"] == [32, 32]
    assert written["short_side"] is None


def test_groups_are_thirds_by_share_without_classes_that_are_nowhere():
    result = made([0.3, 0.1, np.nan, 0.2, 0.05, 0.6, 0.01])
    names = {k: [result.classes[i] for i in v] for k, v in result.groups.items()}
    assert names == {"small": ["g", "e"], "medium": ["b", "d"], "large": ["a", "f"]}
    assert result.group_miou == pytest.approx(
        {"small": (0.7 + 0.5) / 2, "medium": (0.2 + 0.4) / 2, "large": (0.1 + 0.6) / 2}
    )


def test_one_class_leaves_two_groups_empty():
    result = made([0.3] + 6 * [np.nan])
    assert result.group_miou["small"] == pytest.approx(0.1)
    assert np.isnan([result.group_miou["medium"], result.group_miou["large"]]).all()
    assert json.loads(result.to_json())["groups"]["large"] == {
        "miou": None,
        "classes": [],
    }


@pytest.mark.parametrize(
    ("count", "worst", "best"),
    [(1, [3], [1]), (2, [3, 0], [4, 1]), (9, [3, 0], [4, 1])],
)
def test_worst_and_best_images(count, worst, best):
    result = made(7 * [0.1], [0.2, 0.9, np.nan, 0.1, 0.4])
    assert result.extremes(count) == (worst, best)


def test_a_single_image_is_the_worst_and_no_image_is_nothing():
    assert made(7 * [0.1], [0.4]).extremes(3) == ([0], [])
    assert made(7 * [0.1], [np.nan]).extremes(3) == ([], [])


def test_table_ends_with_the_groups(result):
    *_, groups = str(result).splitlines()
    for name, value in result.group_miou.items():
        assert f"{name} {value:.4f}" in groups


def test_csv_has_a_line_for_each_class(result):
    rows = list(csv.DictReader(io.StringIO(result.to_csv())))
    assert [row["class"] for row in rows] == list("abcde")
    for i, row in enumerate(rows[:4]):
        assert float(row["iou"]) == pytest.approx(result.iou[i], abs=1e-6)
        assert float(row["accuracy"]) == pytest.approx(result.accuracy[i], abs=1e-6)
        assert float(row["mean_share"]) == pytest.approx(result.mean_share[i], abs=1e-6)
        assert int(row["pixels"]) == result.confusion[i].sum()
        assert i in result.groups[row["group"]]
    last = rows[4]
    assert (last["pixels"], last["accuracy"], last["group"]) == ("0", "", "")


def test_json_has_groups_and_images_beside_the_scores(result):
    written = json.loads(result.to_json())
    scores = json.loads(Scores(result.confusion, result.classes).to_json())
    assert scores.items() <= written.items()
    names, values = zip(*(row.values() for row in written["images"]), strict=True)
    assert names[:2] == ("image 0", "image 1")
    assert values[3] is None
    np.testing.assert_allclose(values[:3], result.image_miou[:3], atol=1e-6)
    assert set(written["groups"]) == {"small", "medium", "large"}


def test_classifier_is_refused(masks):
    class Classifier:
        output_shape = (None, 5)

    with pytest.raises(ValueError, match=r"Classifier.*\(None, 5\)"):
        evaluate(Classifier(), dataset(masks))
