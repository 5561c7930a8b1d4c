import keras
import numpy as np
import pytest
from keras import ops
from sklearn.metrics import confusion_matrix, jaccard_score

from keras_lrseg.training import MeanIoU, SegmentationCrossEntropy
from tests.helpers import normal
from tests.training.toys import toy_dataset, toy_segmenter

K = 6


def labels_of(shape, seed=1, absent=()):
    """Random labels, a fifth of them ignored, some classes never there."""
    rng = np.random.default_rng(seed)
    present = [i for i in range(K) if i not in absent]
    labels = rng.choice(present, shape)
    return np.where(rng.random(shape) < 0.2, 255, labels).astype("uint8")


def expected_scores(truth, predicted):
    """scikit-learn's mean IoU and confusion matrix of the labelled pixels."""
    valid = truth != 255
    truth, predicted = truth[valid], predicted[valid]
    present = np.union1d(truth, predicted)  # the others do not count
    miou = jaccard_score(truth, predicted, labels=present, average="macro")
    return miou, confusion_matrix(truth, predicted, labels=range(K))


def assert_scores(metric, truth, predicted):
    miou, confusion = expected_scores(truth, predicted)
    assert float(metric.result()) == pytest.approx(miou, abs=1e-6)
    assert metric.scores().miou == pytest.approx(miou, abs=1e-12)
    np.testing.assert_array_equal(metric.scores().confusion, confusion)


@pytest.mark.parametrize("absent", [(), (0, 3), (5,)])
@pytest.mark.parametrize("channel", [False, True])
def test_label_maps_score_as_scikit_learn_says(absent, channel):
    truth = labels_of((2, 31, 17), absent=absent)
    predicted = labels_of((2, 31, 17), seed=2, absent=(3, 5))
    predicted[predicted == 255] = 1
    metric = MeanIoU(K)
    metric.update_state(truth[..., None] if channel else truth, predicted)
    assert_scores(metric, truth, predicted)


@pytest.mark.parametrize("size", [(9, 11), (72, 88), (65, 83)])
def test_logits_score_by_their_largest_at_the_size_of_the_labels(size):
    truth, logits = labels_of((2, *size)), normal(0, (2, 9, 11, K))
    metric = MeanIoU(K)
    metric.update_state(truth, logits)
    large = ops.image.resize(logits, size, "bilinear", data_format="channels_last")
    assert_scores(metric, truth, ops.convert_to_numpy(large).argmax(-1))


def test_updates_add_up_and_reset_starts_again():
    truth, predicted = labels_of((3, 8, 8)), labels_of((3, 8, 8), seed=2) % K
    metric = MeanIoU(K)
    metric.update_state(predicted, predicted)
    metric.reset_state()
    assert float(metric.result()) == 0
    for one, other in zip(truth, predicted, strict=True):
        metric.update_state(one[None], other[None])
    assert_scores(metric, truth, predicted)


def test_another_label_can_be_ignored():
    truth, predicted = labels_of((1, 9, 9)) % K, labels_of((1, 9, 9), seed=2) % K
    metric = MeanIoU(K, ignore_class=2)
    metric.update_state(truth, predicted)
    assert_scores(metric, np.where(truth == 2, 255, truth), predicted)


def test_batch_without_a_labelled_pixel_counts_nothing():
    metric = MeanIoU(K)
    metric.update_state(np.full((1, 4, 4), 255, "uint8"), normal(0, (1, 4, 4, K)))
    assert metric.scores().confusion.sum() == 0
    assert float(metric.result()) == 0


@pytest.mark.parametrize("wrong", [-1, K, 99, 254])
@pytest.mark.parametrize("side", ["truth", "predicted"])
def test_labels_outside_the_classes_do_not_count(side, wrong):
    maps = {
        "truth": np.array([[[0, 1, 1, 5]]]),
        "predicted": np.array([[[0, 1, 2, 5]]]),
    }
    expected = confusion_matrix([0, 1, 5], [0, 1, 5], labels=range(K))
    maps[side][0, 0, 2] = wrong
    metric = MeanIoU(K)
    metric.update_state(
        maps["truth"].astype("int32"), maps["predicted"].astype("int32")
    )
    np.testing.assert_array_equal(metric.scores().confusion, expected)


@pytest.mark.parametrize("before", [2**20 - 3, 2**20 - 1, 2**24, 2**30])
def test_counts_stay_exact_where_float32_and_int32_do_not(before):
    metric = MeanIoU(2)
    metric.low.assign([[before, 0], [0, before]])
    metric.high.assign([[0, 5], [7, 3]])
    for _ in range(3):
        metric.update_state(np.array([[[0, 1]]]), np.array([[[0, 1]]]))
    carry = 2**20
    expected = [[before + 3, 5 * carry], [7 * carry, 3 * carry + before + 3]]
    assert metric.scores().confusion.tolist() == expected
    assert ops.convert_to_numpy(metric.low).max() < carry
    assert float(metric.result()) == pytest.approx(metric.scores().miou, abs=1e-6)


def test_one_batch_may_hold_more_pixels_than_float32_counts():
    side = 2**12 + 2  # its square is beyond 2^24
    labels = np.zeros((1, side, side), "int32")
    metric = MeanIoU(2)
    metric.update_state(labels, labels)
    assert metric.scores().confusion.tolist() == [[side**2, 0], [0, 0]]


def test_fit_and_evaluate_report_the_same_score_as_the_label_maps():
    images, truth = (np.stack(part) for part in zip(*toy_dataset(), strict=True))
    model = toy_segmenter()
    model.compile("sgd", SegmentationCrossEntropy(), metrics=[MeanIoU(3)])
    history = model.fit(images, truth, batch_size=2, epochs=2, verbose=0).history
    assert all(0 < miou < 1 for miou in history["miou"])
    result = model.evaluate(images, truth, batch_size=3, verbose=0, return_dict=True)
    predicted = model.predict(images, verbose=0).argmax(-1)
    assert result["miou"] == pytest.approx(expected_scores(truth, predicted)[0], 1e-6)


def test_class_names_reach_the_scores():
    metric = MeanIoU(2, classes=["road", "sky"])
    metric.update_state(np.zeros((1, 2, 2), "uint8"), np.zeros((1, 2, 2), "uint8"))
    assert metric.scores().classes == ("road", "sky")
    assert MeanIoU(2).scores().classes == ("class 0", "class 1")


def test_sample_weights_are_refused():
    labels = np.zeros((1, 2, 2), "uint8")
    with pytest.raises(ValueError, match="no sample_weight"):
        MeanIoU(2).update_state(labels, labels, sample_weight=labels)


def test_config_round_trip():
    metric = MeanIoU(2, ignore_class=0, classes=["a", "b"], name="mine")
    again = keras.metrics.deserialize(keras.metrics.serialize(metric))
    assert type(again) is MeanIoU
    assert again.get_config() == metric.get_config()
    assert (again.ignore_class, again.classes, again.name) == (0, ("a", "b"), "mine")
