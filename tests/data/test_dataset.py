import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from keras_lrseg.data import (
    UNKNOWN_LABEL,
    SegmentationDataset,
    default_palette,
    load_demo,
)

CLASSES = ("road", "car", "tree", "sky")


def from_folders(folders, classes=CLASSES):
    return SegmentationDataset.from_folders(*folders, classes)


def test_folders_give_sorted_pairs(folders):
    dataset = from_folders(folders)
    assert len(dataset) == 3
    assert dataset.classes == CLASSES
    assert dataset.num_classes == 4
    assert dataset.name == "images"
    assert [path.name for path in dataset.images] == ["a.jpg", "b.png", "c.bmp"]
    np.testing.assert_array_equal(dataset.palette, default_palette(4))
    for (image, mask), stem in zip(dataset, "abc", strict=True):
        assert image.dtype == mask.dtype == np.uint8
        assert image.shape == (48, 64, 3)
        expected = np.asarray(Image.open(folders[1] / f"{stem}.png"))
        np.testing.assert_array_equal(mask, expected)


def test_check_counts_pixels_and_reports_progress(folders):
    dataset, calls = from_folders(folders), []
    counts = dataset.check(progress=lambda done, total: calls.append((done, total)))
    masks = np.stack([mask for _, mask in dataset])
    assert counts.dtype == np.int64
    assert counts.tolist() == [(masks == k).sum() for k in range(4)]
    assert calls == [(1, 3), (2, 3), (3, 3)]


def test_subset(folders):
    part = from_folders(folders).subset([2, 0])
    assert [path.stem for path in part.images] == ["c", "a"]
    assert [path.stem for path in part.masks] == ["c", "a"]
    assert part.classes == CLASSES
    assert [path.stem for path in part.subset([1]).images] == ["a"]


def test_subset_makes_its_items_when_asked(arrays):
    class Loaded(list):
        def __getitem__(self, index):
            taken.append(index)
            return super().__getitem__(index)

    taken = []
    part = dataclasses.replace(arrays, images=Loaded(arrays.images)).subset([4, 2])
    assert taken == []
    np.testing.assert_array_equal(part[1][0], arrays[2][0])
    assert taken == [2]


def test_grey_and_alpha_images_become_rgb(folders):
    Image.new("L", (64, 48), 7).save(folders[0] / "a.jpg")
    Image.new("RGBA", (64, 48), (1, 2, 3, 0)).save(folders[0] / "b.png")
    dataset = from_folders(folders)
    assert dataset[0][0].shape == (48, 64, 3)
    assert dataset[1][0][0, 0].tolist() == [1, 2, 3]


# ---- Classes


def test_classes_are_counted_when_not_given(folders):
    assert from_folders(folders, None).classes == tuple(f"class {i}" for i in range(4))


def test_class_file_with_colours(folders, tmp_path):
    file = tmp_path / "classes.txt"
    file.write_text("road\n\ntraffic light  #ffAA00 \ntree\nsky #0000ff\n")
    dataset = from_folders(folders, file)
    assert dataset.classes == ("road", "traffic light", "tree", "sky")
    assert dataset.palette[1].tolist() == [255, 170, 0]
    assert dataset.palette[3].tolist() == [0, 0, 255]
    assert dataset.palette[0].tolist() == default_palette(4)[0].tolist()
    assert from_folders(folders, str(file)).classes == dataset.classes


def test_class_file_of_other_encodings(folders, tmp_path):
    file = tmp_path / "classes.txt"
    file.write_text("Straße\ncar\ntree\nsky", encoding="utf-8-sig")
    assert from_folders(folders, file).classes[0] == "Straße"
    file.write_text("Straße\ncar\ntree\nsky", encoding="latin-1")
    with pytest.raises(ValueError, match=r"in UTF-8: .*classes\.txt"):
        from_folders(folders, file)


@pytest.mark.parametrize("line", ["sky #12345", "sky #12345g", "#123456", "a#123456"])
def test_class_file_with_a_bad_line(folders, tmp_path, line):
    file = tmp_path / "classes.txt"
    file.write_text(f"road\n{line}\n")
    with pytest.raises(ValueError, match=r"name #rrggbb.*" + line):
        from_folders(folders, file)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["one"], "2 to 255 classes, got 1"),
        ([f"c{i}" for i in range(256)], "2 to 255 classes, got 256"),
        (["a", "b", "a"], "got twice: 'a'"),
    ],
)
def test_bad_class_names(folders, classes, message):
    with pytest.raises(ValueError, match=message):
        from_folders(folders, classes)


def test_missing_class_file(folders):
    with pytest.raises(FileNotFoundError, match=r"class names: nowhere\.txt"):
        from_folders(folders, "nowhere.txt")


def test_masks_of_one_class_do_not_make_a_dataset():
    with pytest.raises(ValueError, match=r"no label but 0.* second class as 1"):
        SegmentationDataset.from_arrays(
            [np.zeros((8, 8, 3), np.uint8)], [np.zeros((8, 8), np.uint8)]
        )


def test_a_class_without_pixels_is_counted_as_zero(folders):
    counts = from_folders(folders, (*CLASSES, "snow")).check()
    assert counts.shape == (5,)
    assert counts[4] == 0


# ---- Masks of other values


def test_label_map_is_applied_on_reading(arrays):
    table = np.full(256, UNKNOWN_LABEL, np.uint8)
    table[[0, 1, 2, 3, 255]] = [1, 255, 0, 1, 255]
    mapped = dataclasses.replace(
        arrays, classes=("x", "y"), palette=default_palette(2), label_map=table
    )
    for (_, mask), (_, original) in zip(mapped, arrays, strict=True):
        np.testing.assert_array_equal(mask, table[original])
    table[2] = UNKNOWN_LABEL
    with pytest.raises(ValueError, match=r"values 0\.\.1, 3, 255, got 2: mask 0"):
        mapped[0]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (np.zeros(255, np.uint8), r"\(256,\) for up to 254 .* uint8 \(255,\)"),
        (np.zeros(256, int), "got int64"),
        (np.full(256, 4, np.uint8), r"0\.\.3 or 255 .*got 4: the label_map"),
    ],
)
def test_bad_label_maps(arrays, table, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(arrays, label_map=table)


# ---- Arrays


def test_arrays_of_one_and_of_many_sizes(arrays):
    image, mask = arrays[3]
    assert image.shape == (*mask.shape, 3) == (61, 75, 3)
    images, masks = np.zeros((5, 8, 9, 3), np.uint8), np.ones((5, 8, 9), np.uint8)
    dataset = SegmentationDataset.from_arrays(images, masks)
    assert len(dataset) == 5
    assert dataset.check().tolist() == [0, 360]


@pytest.mark.parametrize(
    ("image", "mask", "message"),
    [
        (np.zeros((8, 8), np.uint8), None, r"shape \(H, W, 3\), got uint8 \(8, 8\)"),
        (np.zeros((8, 8, 4), np.uint8), None, r"\(8, 8, 4\): image 1"),
        (np.zeros((8, 8, 3), np.float32), None, "got float32"),
        (None, np.zeros((8, 8, 1), np.uint8), r"\(H, W\), got uint8 \(8, 8, 1\)"),
        (None, np.zeros((8, 8), np.int64), "got int64"),
        (None, np.zeros((8, 7), np.uint8), r"\(8, 7\): image 1 and mask 1"),
        (None, np.full((8, 8), 2, np.uint8), "got 2: mask 1"),
    ],
)
def test_bad_arrays(image, mask, message):
    images, masks = np.zeros((2, 8, 8, 3), np.uint8), np.zeros((2, 8, 8), np.uint8)
    images = [images[0], images[1] if image is None else image]
    masks = [masks[0], masks[1] if mask is None else mask]
    with pytest.raises(ValueError, match=message):
        SegmentationDataset.from_arrays(images, masks, ["a", "b"]).check()


def test_as_many_masks_as_images():
    images, masks = np.zeros((2, 8, 8, 3), np.uint8), np.zeros((3, 8, 8), np.uint8)
    with pytest.raises(ValueError, match="2 images and 3 masks"):
        SegmentationDataset.from_arrays(images, masks, ["a", "b"])
    with pytest.raises(ValueError, match="at least one image"):
        SegmentationDataset.from_arrays([], [], ["a", "b"])


def test_index_beyond_the_end(arrays):
    with pytest.raises(IndexError):
        arrays[11]


# ---- The demo data


@pytest.mark.parametrize(
    ("split", "number", "shares"),
    [
        ("train", 91, [0.49, 0.24, 0.13, 0.04, 0.10]),
        ("validation", 33, [0.52, 0.27, 0.08, 0.05, 0.08]),
    ],
)
def test_demo(split, number, shares):
    demo = load_demo(split)
    assert len(demo) == number
    assert demo.classes == ("water", "vegetated", "arid", "tundra", "ice")
    assert all(image.shape == (256, 256, 3) for image, _ in demo)
    counts = demo.check()
    np.testing.assert_allclose(counts / counts.sum(), shares, atol=0.01)


def test_demo_splits_do_not_share_tiles():
    train, validation = load_demo("train"), load_demo("validation")
    names = [{path.stem for path in split.images} for split in (train, validation)]
    assert not names[0] & names[1]
    with pytest.raises(ValueError, match='"train" or "validation", got \'test\''):
        load_demo("test")


# ---- Without TensorFlow and Pillow


def test_import_needs_keras_and_numpy_alone():
    program = """
import sys
sys.modules["PIL"] = sys.modules["tensorflow"] = None
import keras_lrseg.data as data
for call in (
    lambda: data.load_demo("train"),
    lambda: data.training_pipeline(range(2), (8, 8), 1),
):
    try:
        call()
    except ImportError as error:
        print(error)
"""
    output = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"KERAS_BACKEND": "numpy"},
    ).stdout
    assert output.count("pip install keras-lrseg[data]") == 2
