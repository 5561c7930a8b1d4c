"""Folders, images and masks that cannot be used are named, never half used."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from keras_lrseg.data import SegmentationDataset

CLASSES = ("road", "car", "tree", "sky")


def from_folders(folders):
    return SegmentationDataset.from_folders(*folders, CLASSES)


# ---- Folders that cannot be used


def test_missing_folder(folders):
    with pytest.raises(FileNotFoundError, match=r"No such folder: .*gone"):
        SegmentationDataset.from_folders(folders[0] / "gone", folders[1])


def test_empty_folder(folders, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"Found no file of \.png in .*empty"):
        SegmentationDataset.from_folders(folders[0], tmp_path / "empty")


def test_image_without_mask(folders):
    (folders[1] / "b.png").unlink()
    with pytest.raises(ValueError, match=r"1 of 3 images have no mask.*b\.png needs"):
        from_folders(folders)


def test_mask_without_image_is_left_out(folders):
    (folders[0] / "b.png").unlink()
    assert len(from_folders(folders)) == 2


def test_duplicate_stems(folders):
    Image.new("RGB", (64, 48)).save(folders[0] / "a.png")
    with pytest.raises(ValueError, match=r"one stem: .*a\.jpg and .*a\.png"):
        from_folders(folders)


def test_colour_mask(folders):
    Image.new("RGB", (64, 48)).save(folders[1] / "a.png")
    with pytest.raises(ValueError, match=r"got mode RGB: .*a\.png.*to train ids"):
        from_folders(folders)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "1", "I;16"])
def test_mask_of_a_wrong_mode(folders, mode):
    dataset = from_folders(folders)
    Image.new(mode, (64, 48)).save(folders[1] / "c.png")
    with pytest.raises(ValueError, match=rf"got mode {mode}: .*c\.png"):
        dataset.check()


def test_mask_of_four_bits_whose_values_would_be_stretched(folders):
    dataset = from_folders(folders)
    (folders[1] / "c.png").write_bytes(png(64, 48, 4, 0, b"\x11" * 32))
    with pytest.raises(ValueError, match=r"got mode L;4: .*c\.png"):
        dataset[2]


def png(width, height, bits, colours, row):
    """A PNG of equal rows put together by hand: Pillow writes none of 4 or 16 bits."""

    def chunk(kind, body):
        checksum = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + checksum

    header = struct.pack(">IIBBBBB", width, height, bits, colours, 0, 0, 0)
    rows = (b"\0" + row) * height
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


# ---- Pairs that cannot be used: one item and check() say the same


def assert_refused(dataset, index, message):
    with pytest.raises(ValueError, match=message) as of_item:
        dataset[index]
    with pytest.raises(ValueError, match=message) as of_check:
        dataset.check()
    assert str(of_item.value) == str(of_check.value)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("name", ["a.jpg", "b.png", "c.bmp"])
def test_truncated_image_is_named(folders, name, share):
    dataset, path = from_folders(folders), folders[0] / name
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert_refused(dataset, "abc".index(name[0]), f"Cannot read the image .*{name}")


def test_truncated_mask_is_named(folders):
    dataset, path = from_folders(folders), folders[1] / "b.png"
    path.write_bytes(path.read_bytes()[:-40])
    assert_refused(dataset, 1, r"Cannot read the mask .*b\.png")


def test_damaged_bytes_never_escape_as_another_error(folders, rng):
    dataset, path = from_folders(folders), folders[1] / "a.png"
    content = path.read_bytes()
    for _ in range(50):
        damaged = bytearray(content)
        damaged[rng.integers(8, len(content))] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        try:
            dataset[0]
        except ValueError as error:
            assert str(path) in str(error)  # noqa: PT017 (some damage is harmless)


def test_deleted_image_is_named(folders):
    dataset = from_folders(folders)
    (folders[0] / "b.png").unlink()
    assert_refused(dataset, 1, r"image .*b\.png: No such file")


def test_size_mismatch_is_named(folders):
    dataset = from_folders(folders)
    Image.new("L", (64, 47)).save(folders[1] / "c.png")
    assert_refused(
        dataset, 2, r"size \(48, 64\), got \(47, 64\): .*c\.bmp and .*c\.png"
    )


def test_photo_that_its_tag_turns_is_explained(folders):
    dataset = from_folders(folders)
    Image.new("L", (48, 64)).save(folders[1] / "c.png")
    assert_refused(dataset, 2, r"c\.png\. A photo's orientation tag .* save it upright")


def test_label_outside_the_classes_is_named(folders):
    dataset = from_folders(folders)
    Image.new("L", (64, 48), 4).save(folders[1] / "b.png")
    assert_refused(dataset, 1, r"train ids 0\.\.3 or 255 .*got 4: .*b\.png")


def test_huge_image_is_refused_and_not_left_out(folders, monkeypatch):
    dataset = from_folders(folders)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match=r"Cannot read .*a\.jpg.*MAX_IMAGE_PIXELS"):
        dataset.without_corrupt()


def test_deep_image_is_named(folders):
    dataset = from_folders(folders)
    Image.fromarray(np.zeros((48, 64), np.uint16)).save(folders[0] / "b.png")
    assert_refused(dataset, 1, r"8 bits a channel, got mode I;16: .*b\.png")


def test_deep_colours_are_named(folders):
    dataset = from_folders(folders)
    deep = png(64, 48, 16, 2, b"\x12\x34" * 3 * 64)
    (folders[0] / "b.png").write_bytes(deep)
    assert_refused(dataset, 1, r"8 bits a channel, got mode RGB;16B: .*b\.png")


# ---- Corrupt files among many


@pytest.mark.parametrize("classes", [CLASSES, None])
def test_corrupt_first_mask_is_left_out_too(folders, classes):
    (folders[1] / "a.png").write_bytes(b"not a picture")
    dataset = SegmentationDataset.from_folders(*folders, classes)
    assert_refused(dataset, 0, r"Cannot read the mask .*a\.png")
    kept, messages = dataset.without_corrupt()
    assert [mask.name for mask in kept.masks] == ["b.png", "c.png"]
    assert kept.num_classes == 4
    assert len(messages) == 1


def test_no_readable_mask_at_all(folders):
    for path in folders[1].iterdir():
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"Cannot read the mask .*a\.png"):
        from_folders(folders)


def test_corrupt_files_are_left_out_and_named(folders):
    dataset, calls = from_folders(folders), []
    (folders[0] / "a.jpg").write_bytes(b"not a picture")
    path = folders[1] / "c.png"
    path.write_bytes(path.read_bytes()[:-40])
    kept, messages = dataset.without_corrupt(lambda *done: calls.append(done))
    assert [image.name for image in kept.images] == ["b.png"]
    assert [message.split(": ")[0] for message in messages] == [
        f"Cannot read the image {folders[0] / 'a.jpg'}",
        f"Cannot read the mask {path}",
    ]
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert kept.check().sum() > 0


def test_nothing_is_left_out_of_a_sound_dataset(folders):
    kept, messages = from_folders(folders).without_corrupt()
    assert (len(kept), messages) == (3, [])


def test_a_wrong_label_is_not_skipped_as_corrupt(folders):
    Image.new("L", (64, 48), 4).save(folders[1] / "b.png")
    with pytest.raises(ValueError, match=r"got 4: .*b\.png"):
        from_folders(folders).without_corrupt()


def test_no_usable_image_at_all(folders):
    dataset = from_folders(folders)
    for path in folders[0].iterdir():
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"None of the 3 images .* first: .*a\.jpg"):
        dataset.without_corrupt()
