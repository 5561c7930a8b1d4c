import numpy as np
import pytest
from PIL import Image

from keras_lrseg.data import (
    atomic_path,
    colour_labels,
    default_palette,
    load_image,
    load_images,
    load_mask,
    overlay,
    save_image,
    save_mask,
)


def test_palette_is_distinct_deterministic_and_a_prefix_of_longer_ones():
    palette = default_palette(255)
    assert palette.dtype == np.uint8
    assert len(np.unique(palette, axis=0)) == 255
    assert palette.max(axis=1).min() > 100  # none near black
    np.testing.assert_array_equal(default_palette(19), palette[:19])
    distance = np.abs(palette[:20, None].astype(int) - palette[None, :20]).sum(-1)
    assert distance[~np.eye(20, dtype=bool)].min() > 30


def test_colour_labels():
    palette = default_palette(3)
    picture = colour_labels(np.array([[0, 2, 255]]), palette)
    assert picture.tolist() == [[*palette[[0, 2]].tolist(), [0, 0, 0]]]
    with pytest.raises(ValueError, match=r"0\.\.2 or 255 .*got 3"):
        colour_labels(np.array([[3]]), palette)


def test_overlay():
    palette = np.array([[200, 0, 100], [0, 0, 0]], np.uint8)
    image = np.full((1, 2, 3), 100, np.uint8)
    result = overlay(image, np.array([[0, 255]]), palette, opacity=0.25)
    assert result.dtype == np.uint8
    assert result.tolist() == [[[125, 75, 100], [100, 100, 100]]]


def test_overlay_refuses():
    palette, labels = default_palette(2), np.zeros((4, 5), np.uint8)
    with pytest.raises(ValueError, match=r"shape \(4, 5, 3\)"):
        overlay(np.zeros((5, 4, 3), np.uint8), labels, palette)
    with pytest.raises(ValueError, match="got float64"):
        overlay(np.zeros((4, 5, 3)), labels, palette)
    with pytest.raises(ValueError, match=r"0\.\.1, got 2"):
        overlay(np.zeros((4, 5, 3), np.uint8), labels, palette, opacity=2)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_photo_is_turned_as_its_tag_says_when_asked(tmp_path, suffix):
    image = np.zeros((40, 60, 3), np.uint8)
    image[:, :30] = 200
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    Image.fromarray(image).save(tmp_path / f"a.{suffix}", exif=exif)
    assert load_image(tmp_path / f"a.{suffix}").shape == (40, 60, 3)
    (upright,) = load_images(tmp_path)
    assert upright.shape == (60, 40, 3)
    assert upright[:28].min() > 190
    assert upright[32:].max() < 10


@pytest.mark.parametrize("count", [1, 3, 7, 11, 20, None])
def test_images_are_picked_evenly(tmp_path, count):
    for i in range(11):
        Image.new("L", (2, 2), i).save(tmp_path / f"{i:02}.png")
    values = [image[0, 0, 0] for image in load_images(tmp_path, count)]
    assert len(values) == min(count or 11, 11)
    gaps = np.diff([*values, 11])
    assert values[0] == 0
    assert max(gaps) - min(gaps) <= 1


@pytest.mark.parametrize("num_classes", [2, 5, 16, 17, 150, 255])
def test_saved_mask_is_read_back(tmp_path, rng, num_classes):
    labels = rng.integers(0, num_classes, (31, 20))
    labels[:3] = 255
    path = tmp_path / "new" / "mask.png"
    save_mask(path, labels, default_palette(num_classes))
    np.testing.assert_array_equal(load_mask(path), labels)
    # A viewer shows the palette's colours.
    expected = colour_labels(labels, default_palette(num_classes))
    np.testing.assert_array_equal(load_image(path), expected)
    assert [file.name for file in path.parent.iterdir()] == ["mask.png"]


def test_save_mask_refuses(tmp_path):
    palette = default_palette(2)
    with pytest.raises(ValueError, match=r"in a \.png only, got: .*mask\.jpg"):
        save_mask(tmp_path / "mask.jpg", np.zeros((2, 2), int), palette)
    with pytest.raises(ValueError, match="got -1, 2"):
        save_mask(tmp_path / "mask.png", np.array([[-1, 2]]), palette)
    with pytest.raises(ValueError, match="integer labels"):
        save_mask(tmp_path / "mask.png", np.zeros((2, 2)), palette)
    assert not list(tmp_path.iterdir())


def test_saved_image_is_read_back(tmp_path, rng):
    image = rng.integers(0, 256, (7, 9, 3), np.uint8)
    save_image(tmp_path / "image.png", image)
    np.testing.assert_array_equal(load_image(tmp_path / "image.png"), image)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")

    def write_half():
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert [file.read_text() for file in tmp_path.iterdir()] == ["old"]
