import keras
import numpy as np
import pytest
from PIL import Image

from keras_lrseg.data import MEAN_COLOUR, SegmentationDataset
from keras_lrseg.evaluation import (
    Scores,
    TestSettings,
    confusion_matrix,
    evaluate,
    predict_labels,
    predict_logits,
)
from tests.helpers import fill
from tests.training.toys import CLASSES, toy_dataset, toy_segmenter


@pytest.fixture(scope="module")
def oracle():
    """Red, green and blue are the logits of their classes."""
    images = keras.Input((None, None, 3))
    return keras.Model(images, keras.layers.Rescaling(1 / 255)(images))


def image_of(height, width):
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), "uint8")
    return np.asarray(Image.fromarray(small).resize((width, height)))


@pytest.mark.parametrize("size", [(48, 80), (45, 71), (33, 32)])
def test_labels_have_the_images_size_and_are_the_largest_logit(size, oracle):
    image = image_of(*size)
    labels = predict_labels(oracle, image)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, image.argmax(-1))


@pytest.mark.parametrize("size", [(48, 80), (45, 71)])
def test_model_that_does_not_enlarge_its_logits_gives_the_same_labels(size):
    model = fill(toy_segmenter(5))
    coarse = toy_segmenter(5, upsample=False)
    coarse.set_weights(model.get_weights())
    image = image_of(*size)
    labels = predict_labels(coarse, image)
    assert labels.shape == size
    assert len(np.unique(labels)) > 1
    np.testing.assert_array_equal(labels, predict_labels(model, image))


def test_average_is_of_one_softmax_where_the_model_has_its_own():
    model, probable = (toy_segmenter(5, activation=a) for a in (None, "softmax"))
    probable.set_weights(fill(model).get_weights())
    settings, image = TestSettings(flip=True), image_of(48, 80)
    expected = predict_logits(model, image, settings)
    result = predict_logits(probable, image, settings)
    np.testing.assert_allclose(result, expected, atol=1e-5)


@pytest.mark.parametrize("window", [None, (40, 40)])
def test_image_smaller_than_the_model_takes_is_padded(window):
    model, image = fill(toy_segmenter(5)), image_of(20, 45)
    settings = TestSettings(window=window, stride=window)
    logits = predict_logits(model, image, settings)
    assert logits.shape == (20, 45, 5)
    padded = np.empty((32, 45, 3), "uint8")
    padded[:] = MEAN_COLOUR
    padded[:20] = image
    expected = predict_logits(model, padded, settings)[:20]
    np.testing.assert_allclose(logits, expected, atol=1e-5 * expected.std())


@pytest.mark.parametrize("shape", [(32, 32), (1, 32, 32, 3), (32, 32, 4), (32, 32, 1)])
def test_array_that_is_no_image_is_refused_with_its_shape(shape, oracle):
    with pytest.raises(ValueError, match=r"\(height, width, 3\)") as error:
        predict_labels(oracle, np.zeros(shape, "uint8"))
    assert str(shape) in str(error.value)


def test_scores_are_those_of_all_images_together(oracle):
    images, masks = map(list, zip(*toy_dataset(3), strict=True))
    images[1], masks[1] = images[1][:40], masks[1][:40]  # sizes differ
    masks[0][5:25, :30], masks[2][-4:] = 1, 255
    dataset = SegmentationDataset.from_arrays(images, masks, CLASSES)
    scores = evaluate(oracle, dataset)
    truth = np.concatenate([mask.ravel() for mask in masks])
    labels = np.concatenate([image.argmax(-1).ravel() for image in images])
    expected = Scores(confusion_matrix(truth, labels.astype("uint8"), 3), CLASSES)
    np.testing.assert_array_equal(scores.confusion, expected.confusion)
    assert scores.classes == CLASSES
    assert 0.5 < scores.miou < 1


def test_right_predictions_score_one(oracle):
    assert evaluate(oracle, toy_dataset(2)).miou == 1


def test_progress_sees_every_image(oracle):
    seen = []

    def progress(indices):
        assert len(indices) == 3
        for i in indices:
            seen.append(i)
            yield i

    evaluate(oracle, toy_dataset(3), progress=progress)
    assert seen == [0, 1, 2]


def test_other_number_of_classes_is_refused_with_their_names(oracle):
    images, masks = zip(*toy_dataset(1), strict=True)
    dataset = SegmentationDataset.from_arrays(images, masks, ["a", "b", "c", "d"])
    with pytest.raises(ValueError, match="3 classes and the data 4: a, b, c, d"):
        evaluate(oracle, dataset)
