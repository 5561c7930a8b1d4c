import functools
import json

import keras
import numpy as np
import pytest
from PIL import Image

from keras_lrseg import SemanticSegmenter
from keras_lrseg.analysis import (
    ideal_representations,
    mine_class_representations,
    similarity_maps,
    similarity_matrices,
)
from keras_lrseg.analysis.class_representations import own_representations
from keras_lrseg.data import SegmentationDataset
from keras_lrseg.evaluation import evaluate
from keras_lrseg.layers import OffsetLearning
from tests.helpers import fill, normal, refused
from tests.training.toys import CLASSES, toy_dataset, toy_segmenter

# --- The equation ---------------------------------------------------------------------


def image_of_labels(seed=0, size=(31, 42), num_classes=4, ignored=0.2):
    rng = np.random.default_rng(seed)
    mask = rng.integers(0, num_classes, size).astype("uint8")
    mask[rng.random(size) < ignored] = 255
    return mask


def repeated(features, size):
    """Each pixel's feature, (H*W, C): that of the cell its centre is in."""
    places = [
        np.floor((np.arange(n) + 0.5) * cells / n).astype(int)
        for n, cells in zip(size, features.shape[:2], strict=True)
    ]
    return features[np.ix_(*places)].reshape(-1, features.shape[-1]).astype("float64")


def squared_error(features, mask, representations):
    pixels = repeated(features, mask.shape)
    target = np.eye(256)[mask.ravel()][:, : len(representations)]
    error = (pixels @ representations.T - target)[mask.ravel() != 255]
    return (error**2).sum()


@pytest.mark.parametrize("grid", [(8, 11), (7, 9), (31, 42), (1, 1)])
def test_ideal_representations_solve_the_equation_of_the_paper(grid):
    features, mask = normal(1, (*grid, 6)), image_of_labels()
    ideal = ideal_representations(features, mask, 4)
    labelled = mask.ravel() != 255
    pixels = repeated(features, mask.shape)[labelled]  # E
    one_hot = np.eye(4)[mask.ravel()[labelled]].T  # M
    expected = one_hot @ np.linalg.pinv(pixels.T, rcond=1e-5)
    np.testing.assert_allclose(ideal, expected, atol=1e-9)


def test_no_other_representations_come_closer_to_the_labels():
    features, mask = normal(1, (8, 11, 6)), image_of_labels()
    ideal = ideal_representations(features, mask, 4)
    least = squared_error(features, mask, ideal)
    for seed in range(20):
        other = ideal + 1e-3 * normal(seed, ideal.shape)
        assert squared_error(features, mask, other) > least


def test_ignored_pixels_do_not_count():
    features, mask = normal(1, (8, 10, 6)), image_of_labels(size=(32, 40))
    mask[:12] = 255  # three rows of cells
    ideal = ideal_representations(features, mask, 4)
    features[:3] = 100 * normal(2, (3, 10, 6))
    np.testing.assert_array_equal(ideal_representations(features, mask, 4), ideal)
    features[3] = -features[3]
    assert abs(ideal_representations(features, mask, 4) - ideal).max() > 1e-3


def test_class_that_is_not_in_the_image_has_zeros():
    ideal = ideal_representations(normal(1, (8, 10, 6)), image_of_labels(), 7)
    assert (ideal[4:] == 0).all()
    assert (ideal[:4] != 0).all()


def test_features_that_depend_on_each_other_get_the_smallest_solution():
    features, mask = normal(1, (8, 10, 3)), image_of_labels()
    ideal = ideal_representations(features, mask, 4)
    noise = 1e-7 * normal(2, features.shape)  # the rounding of float32
    doubled = np.concatenate([features, features + noise], axis=-1)
    both = ideal_representations(doubled, mask, 4)
    np.testing.assert_allclose(both, np.tile(ideal / 2, 2), atol=1e-5)


def test_weak_directions_are_left_out_below_rcond():
    features, mask = normal(1, (8, 10, 4)), image_of_labels()
    features[..., 3] *= 1e-3
    ideal = ideal_representations(features, mask, 4, rcond=1e-1)
    strong = ideal_representations(features[..., :3], mask, 4)
    np.testing.assert_allclose(ideal[:, :3], strong, atol=1e-2)
    assert abs(ideal[:, 3]).max() < 1e-2
    assert abs(ideal_representations(features, mask, 4)[:, 3]).max() > 1


def test_features_that_are_all_zero_have_no_representations():
    assert (
        ideal_representations(np.zeros((8, 10, 3)), image_of_labels(), 4) == 0
    ).all()


def test_wrong_labels_and_features_are_refused():
    features, mask = normal(1, (8, 10, 3)), image_of_labels()
    with refused("0..2", "got 3"):
        ideal_representations(features, mask, 3)
    for rcond in (-0.1, 1.0):
        with refused("rcond", rcond):
            ideal_representations(features, mask, 4, rcond)
    features[2, 3, 1] = np.nan
    with refused("not finite"):
        ideal_representations(features, mask, 4)


# --- A segmenter whose answer is known ------------------------------------------------


def colour_segmenter(classifier=None, **settings):
    """Features are the images' colours at stride 4, classes red, green and blue."""
    images = keras.Input((None, None, 3))
    pooled = keras.layers.AveragePooling2D(4)(images)
    decoder = keras.layers.Rescaling(1 / 255, name="decoder")
    pyramid = keras.Input((None, None, 3), name="P3")
    decoder = keras.Model({"P3": pyramid}, decoder(pyramid), name="decoder")
    model = SemanticSegmenter(
        keras.Model(images, {"P3": pooled}),
        decoder,
        classifier or keras.layers.Conv2D(3, 1, name="classifier"),
        include_preprocessing=False,
        **settings,
    )
    if classifier is None:
        model.classifier.set_weights([np.eye(3).reshape(1, 1, 3, 3), np.zeros(3)])
    return model


def colour_dataset(orders, size=(36, 60), classes=("red", "green", "blue")):
    """Stripes of the three classes; `orders` are the channels that they light up."""
    mask = np.repeat(np.arange(3, dtype="uint8"), size[1] // 3)[None].repeat(size[0], 0)
    images = [
        (np.eye(3)[list(order)][mask] * (100 + 50 * i)).astype("uint8")
        for i, order in enumerate(orders)
    ]
    return SegmentationDataset.from_arrays(images, [mask] * len(orders), classes)


colours = functools.cache(colour_segmenter)  # the default one for all tests
KNOWN = colour_dataset([(0, 1, 2), (0, 1, 2), (1, 2, 0)])


@pytest.fixture(scope="module")
def known():
    """Two images alike, of different brightness, and one of exchanged colours."""
    return mine_class_representations(colours(), KNOWN)


def test_mined_representations_label_images_that_the_models_own_cannot(known):
    assert known.mined.miou == 1
    assert known.own.iou.tolist() == [0.5] * 3  # of 3 images, one is all wrong


def test_similarities_are_the_mean_cosines(known):
    assert known.images.tolist() == [3, 3, 3]
    np.testing.assert_allclose(known.similarity, 1 / 3, atol=1e-6)
    np.testing.assert_allclose(known.similarity_to_own, 2 / 3, atol=1e-6)
    expected = [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
    for matrix in known.matrices:
        np.testing.assert_allclose(matrix, expected, atol=1e-6)


def test_typical_image_is_the_one_that_a_class_covers_by_half(known):
    assert known.typical.tolist() == [0, 0, 0]
    image, mask = KNOWN[0]
    half = mask.copy()
    half[:, :10], half[:, 25:40] = 1, 0  # now red and green exchange some columns
    half[:, 40:50] = 255
    dataset = SegmentationDataset.from_arrays([image] * 2, [mask, half], CLASSES)
    mined = mine_class_representations(colours(), dataset)
    assert mined.typical.tolist() == [1, 0, 0]  # shares 0.5, 0.33 and 0.33
    assert mined.examples(2) == [(1, 0), (0, 1)]


def test_table_and_json_have_every_number(known):
    lines = str(known).splitlines()
    assert lines[1].split() == ["red", "0.500", "1.000", "3", "0.333", "0.667"]
    assert len(lines) == 1 + 3 + 2
    assert lines[-2].startswith("own:   mIoU 0.5000")
    assert lines[-1].startswith("mined: mIoU 1.0000")
    values = json.loads(known.to_json())
    assert values["own"] == json.loads(known.own.to_json())
    assert values["mined"]["miou"] == 1
    assert values["classes"]["blue"] == {
        "images": 3,
        "similarity": pytest.approx(1 / 3, abs=1e-5),
        "similarity_to_own": pytest.approx(2 / 3, abs=1e-5),
    }


# --- Any segmenter, any data ----------------------------------------------------------


def test_models_own_scores_are_those_of_the_evaluation():
    model, dataset = fill(toy_segmenter()), toy_dataset(3)
    mined = mine_class_representations(model, dataset)
    expected = evaluate(model, dataset)
    np.testing.assert_array_equal(mined.own.confusion, expected.confusion)
    assert mined.mined.miou > expected.miou
    assert mined.classes == CLASSES


def test_models_own_representations_are_never_closer_to_the_labels():
    model = fill(toy_segmenter())
    extract = keras.Model(model.input, model.features)
    own = own_representations(model)
    assert own.shape == (3, 8)
    for image, mask in toy_dataset(3, size=(70, 86)):
        features = extract.predict_on_batch(image[None])[0]
        ideal = ideal_representations(features, mask, 3)
        least = squared_error(features, mask, ideal)
        assert least < squared_error(features, mask, own)


def test_logits_are_enlarged_whether_the_model_does_it_or_not():
    model = fill(toy_segmenter())
    coarse = toy_segmenter(upsample=False)
    coarse.set_weights(model.get_weights())
    expected, actual = (
        mine_class_representations(m, toy_dataset(2)) for m in (model, coarse)
    )
    np.testing.assert_array_equal(actual.own.confusion, expected.own.confusion)
    np.testing.assert_array_equal(actual.mined.confusion, expected.mined.confusion)


def test_offset_learnings_representations_are_its_learnt_ones():
    model = fill(colour_segmenter(OffsetLearning(3)))
    learnt = keras.ops.convert_to_numpy(model.classifier.class_representations)
    np.testing.assert_array_equal(own_representations(model), learnt)
    mined = mine_class_representations(model, KNOWN)
    unit = learnt / np.linalg.norm(learnt, axis=1, keepdims=True)
    expected = (2 * np.diag(unit) + unit[[0, 1, 2], [1, 2, 0]]) / 3
    np.testing.assert_allclose(mined.similarity_to_own, expected, atol=1e-5)


def test_linear_maps_of_each_kind_have_representations_and_others_none():
    for classifier in (keras.layers.Dense(3), keras.layers.Conv2D(3, 1)):
        model = colour_segmenter(classifier)
        kernel = keras.ops.convert_to_numpy(classifier.kernel).reshape(3, 3)
        np.testing.assert_array_equal(own_representations(model), kernel.T)
    model = colour_segmenter(keras.layers.Conv2D(3, 3, padding="same"))
    mined = mine_class_representations(model, KNOWN)
    assert np.isnan(mined.similarity_to_own).all()
    assert mined.mined.miou == 1
    values = json.loads(mined.to_json())
    assert values["classes"]["red"]["similarity_to_own"] is None


def test_class_in_no_image_has_no_similarity_and_images_without_labels_do_not_count():
    images, masks = zip(*KNOWN, strict=True)
    masks = [np.where(masks[0] == 2, 255, masks[0]), np.full_like(masks[1], 255)]
    dataset = SegmentationDataset.from_arrays(images[:2], masks, CLASSES)
    seen = []

    def progress(indices):
        assert len(indices) == 2
        for i in indices:
            seen.append(i)
            yield i

    mined = mine_class_representations(colours(), dataset, progress)
    assert seen == [0, 1]
    assert mined.images.tolist() == [1, 1, 0]
    assert np.isnan(mined.similarity).all()
    assert np.isnan(mined.similarity_to_own).tolist() == [False, False, True]
    assert mined.typical.tolist() == [0, 0, -1]
    assert mined.examples() == [(0, 0), (0, 1)]
    assert mined.mined.pixel_accuracy == 1


def test_wrong_models_and_data_are_refused():
    images, masks = zip(*KNOWN, strict=True)
    empty = SegmentationDataset.from_arrays(
        images, [np.full_like(masks[0], 255)] * 3, CLASSES
    )
    four = SegmentationDataset.from_arrays(images, masks, ["a", "b", "c", "d"])
    plain = keras.Input((None, None, 3))
    plain = keras.Model(plain, keras.layers.Conv2D(3, 1)(plain))
    with refused("no labelled pixel", 255):
        mine_class_representations(colours(), empty)
    with refused("3 classes", "data 4", "a, b, c, d"):
        mine_class_representations(colours(), four)
    with refused("SemanticSegmenter", "decoder", "classifier"):
        mine_class_representations(plain, KNOWN)


# --- Pictures -------------------------------------------------------------------------


def picture(path):
    return np.asarray(Image.open(path)).astype(int)


def test_matrices_are_drawn_in_their_colours_side_by_side(tmp_path, known):
    similarity_matrices(known, tmp_path / "new" / "similarity.png")
    drawn = picture(tmp_path / "new" / "similarity.png")
    assert drawn.shape == (20 + 160 + 6, 3 * 160 + 2 * 6, 3)
    red, grey = (180, 4, 38), (221, 221, 221)
    for left in (0, 166, 332):
        panel = drawn[20:180, left : left + 160]
        corners = panel[10, 10], panel[10, -10], panel[-10, 10], panel[-10, -10]
        assert [tuple(c) for c in corners] == [red, grey, grey, red]


def test_many_classes_take_several_rows(tmp_path):
    names = [f"class {i}" for i in range(8)]
    images = normal(1, (1, 40, 40, 3)).astype("uint8")
    masks = np.arange(1600, dtype="uint8").reshape(1, 40, 40) % 8
    dataset = SegmentationDataset.from_arrays(images, masks, names)
    mined = mine_class_representations(
        colour_segmenter(keras.layers.Conv2D(8, 1)), dataset
    )
    similarity_matrices(mined, tmp_path / "s.png")
    drawn = picture(tmp_path / "s.png")
    assert drawn.shape == (2 * 186, 6 * 160 + 5 * 6, 3)
    assert (drawn[186:, 2 * 166 :] == 255).all()
    assert not (drawn[186:, :160] == 255).all()


def test_maps_show_image_truth_and_both_similarities(tmp_path):
    rows = [(0, 0), (0, 1), (2, 1)]
    similarity_maps(colours(), KNOWN, tmp_path / "maps.png", rows, width=60)
    drawn = picture(tmp_path / "maps.png")
    assert drawn.shape == (3 * (20 + 36 + 6), 4 * 60 + 3 * 6, 3)
    cells = [
        [drawn[top + 20 : top + 56, left : left + 60] for left in (0, 66, 132, 198)]
        for top in (0, 62, 124)
    ]
    for (image, truth, own, mined), (index, label) in zip(cells, rows, strict=True):
        expected, mask = KNOWN[index]
        np.testing.assert_array_equal(image, expected)
        of_class = mask == label
        assert (truth[of_class] == (180, 4, 38)).all()
        assert (truth[~of_class] == (59, 76, 192)).all()
        # The colours are orthogonal: a cosine of 1 for the class and of 0 elsewhere.
        assert (mined[of_class] == (180, 4, 38)).all()
        assert (mined[~of_class] == (221, 221, 221)).all()
        assert np.array_equal(own, mined) == (index == 0)
    assert not np.array_equal(cells[0][3], cells[1][3])


def test_maps_leave_out_what_is_not_known(tmp_path):
    images, masks = zip(*KNOWN, strict=True)
    masks = [mask.copy() for mask in masks]
    masks[0][:9] = 255
    dataset = SegmentationDataset.from_arrays(images, masks, CLASSES)
    model = colour_segmenter(keras.layers.Conv2D(3, 3, padding="same"))
    similarity_maps(model, dataset, tmp_path / "maps.png", [(0, 0)], width=60)
    drawn = picture(tmp_path / "maps.png")
    assert drawn.shape == (62, 3 * 60 + 2 * 6, 3)  # no picture of the model's own
    assert (drawn[20:29, 66:126] == 0).all()
    assert (drawn[29:56, 66:126] != 0).any()


def test_failed_picture_leaves_no_file(tmp_path):
    with pytest.raises(IndexError):
        similarity_maps(colours(), KNOWN, tmp_path / "m.png", [(0, 0), (9, 0)])
    assert list(tmp_path.iterdir()) == []
