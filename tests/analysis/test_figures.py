import keras
import numpy as np
import pytest
from PIL import Image

from keras_lrseg.analysis import contact_picture, contact_sheet, training_curve
from keras_lrseg.data import SegmentationDataset
from keras_lrseg.evaluation import TestSettings, predict_labels
from tests.training.toys import toy_dataset


@pytest.fixture(scope="module")
def oracle():
    """Red, green and blue are the logits of their classes."""
    images = keras.Input((None, None, 3))
    return keras.Model(images, keras.layers.Rescaling(1 / 255)(images))


def colours_in(pixels):
    return set(map(tuple, pixels.reshape(-1, 3).tolist()))


def test_rows_are_image_truth_and_prediction_side_by_side(tmp_path, oracle):
    dataset, path = toy_dataset(3, size=(48, 80)), tmp_path / "new" / "sheet.png"
    contact_sheet(oracle, dataset, path, [2, 0], width=80)
    sheet = np.asarray(Image.open(path))
    assert sheet.shape == (2 * (20 + 48 + 6) + 24, 3 * 80 + 2 * 6, 3)
    for top, i in ((20, 2), (94, 0)):
        image, mask = dataset[i]
        cells = [sheet[top : top + 48, left : left + 80] for left in (0, 86, 172)]
        np.testing.assert_array_equal(cells[0], image)
        labelled = mask != 255
        truth = dataset.palette[np.where(labelled, mask, 0)]
        truth = truth * labelled[..., None]  # ignored pixels are black
        np.testing.assert_array_equal(cells[1], truth)
        predicted = dataset.palette[image.argmax(-1)]
        np.testing.assert_array_equal(cells[2], predicted)
    assert (sheet[68:74] == 255).all()
    assert (sheet[:20] < 100).any()  # the image's name
    # The legend: every class's colour, and black letters.
    legend = colours_in(sheet[-24:])
    assert {*map(tuple, dataset.palette.tolist()), (0, 0, 0)} <= legend


@pytest.mark.parametrize(("size", "height"), [((1, 99), 1), ((99, 1), 4 * 20)])
def test_slivers_are_squeezed_into_a_picture(size, height, oracle):
    picture = contact_picture(oracle, toy_dataset(1, size=size), [0], width=20)
    assert (len(picture) - 20 - height - 6) % 24 == 0  # lines of the legend


def test_prediction_is_what_the_test_settings_give(oracle):
    dataset = toy_dataset(1, size=(48, 80))
    settings = TestSettings(short_side=12, long_side=20)
    picture = contact_picture(oracle, dataset, [0], settings, width=80)
    image, _ = dataset[0]
    expected = dataset.palette[predict_labels(oracle, image, settings)]
    np.testing.assert_array_equal(picture[20:68, 172:], expected)
    whole = contact_picture(oracle, dataset, [0], width=80)
    assert (picture[20:68, 172:] != whole[20:68, 172:]).any()


def test_captions_take_the_place_of_names(oracle):
    dataset = toy_dataset(1, size=(48, 80))
    named, scored = (
        contact_picture(oracle, dataset, [0], width=80, captions=captions)
        for captions in (None, ["mIoU 0.5"])
    )
    assert (named[:20] != scored[:20]).any()
    np.testing.assert_array_equal(named[20:], scored[20:])


def test_images_keep_their_aspect_and_long_legends_take_more_lines(tmp_path, oracle):
    images, masks = zip(*toy_dataset(1, size=(40, 80)), strict=True)
    names = [f"a rather long name {i}" for i in range(9)]
    dataset = SegmentationDataset.from_arrays(images, masks, names)
    contact_sheet(oracle, dataset, tmp_path / "sheet.png", [0], width=120)
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    height, width, _ = sheet.shape
    assert width == 3 * 120 + 2 * 6
    assert height > 20 + 60 + 6 + 2 * 24
    assert (height - 86) % 24 == 0
    legend = colours_in(sheet[86:])
    assert set(map(tuple, dataset.palette.tolist())) <= legend


def test_a_failed_prediction_leaves_no_picture(tmp_path, oracle):
    with pytest.raises(IndexError):
        contact_sheet(oracle, toy_dataset(1), tmp_path / "sheet.png", [0, 1])
    assert list(tmp_path.iterdir()) == []


def test_curve_has_loss_and_score_where_there_is_one(tmp_path):
    log = tmp_path / "log.csv"
    log.write_text("epoch,loss,val_miou\n0,2.0,\n1,1.0,0.5\n2,0.5,0.75\n")
    training_curve(log, tmp_path / "both.png")
    log.write_text("epoch,loss\n0,2.0\n1,1.0\n")
    training_curve(log, tmp_path / "loss.png")
    both, loss = (
        np.asarray(Image.open(tmp_path / name).convert("RGB")).astype(int)
        for name in ("both.png", "loss.png")
    )
    assert both.shape == loss.shape == (420, 840, 3)

    def orange(pixels):  # more red than green than blue
        return ((pixels[..., 0] > 200) & (pixels[..., 2] < 100)).sum()

    assert orange(both) > 100 > orange(loss)
