"""Tiny trees laid out as the public data sets are, each with one image or two."""

import pathlib
import tomllib

import numpy as np
import pytest
from PIL import Image

from keras_lrseg.data import DATASETS, load_dataset
from keras_lrseg.data.class_names import read_classes

CLASSES = {
    "ade20k": 150,
    "coco_stuff": 171,
    "cityscapes": 19,
    "pascal_context": 59,
    "camvid": 11,
}
# Name, split, image, mask, values of the mask, the train ids that they mean.
CITY = "leftImg8bit/val/ulm/ulm_000000_000019_leftImg8bit.png"
FINE = "gtFine/val/ulm/ulm_000000_000019_gtFine_"
TREES = {
    "ade20k": (
        "ade20k",
        "train",
        "images/training/ADE_train_00000001.jpg",
        "annotations/training/ADE_train_00000001.png",
        [0, 1, 2, 150],
        [255, 0, 1, 149],
    ),
    "coco_stuff raw": (
        "coco_stuff",
        "validation",
        "images/val2017/000000000139.jpg",
        "annotations/val2017/000000000139.png",
        # person, train, bus (no gap yet), stop sign (first gap), toothbrush, banner
        [0, 6, 5, 12, 89, 91, 181, 255],
        [0, 6, 5, 11, 79, 80, 170, 255],
    ),
    "coco_stuff train ids": (
        "coco_stuff",
        "train",
        "images/train2017/000000000009.jpg",
        "annotations/train2017/000000000009_labelTrainIds.png",
        [0, 12, 170, 255],
        [0, 12, 170, 255],
    ),
    "cityscapes label ids": (
        "cityscapes",
        "validation",
        CITY,
        FINE + "labelIds.png",
        [0, 7, 8, 10, 11, 16, 19, 24, 26, 29, 31, 33, 255],
        [255, 0, 1, 255, 2, 255, 6, 11, 13, 255, 16, 18, 255],
    ),
    "cityscapes train ids": (
        "cityscapes",
        "validation",
        CITY,
        FINE + "labelTrainIds.png",
        [0, 7, 18, 255],
        [0, 7, 18, 255],
    ),
    "pascal_context": (
        "pascal_context",
        "train",
        "JPEGImages/2008_000002.jpg",
        "SegmentationClassContext/2008_000002.png",
        [0, 1, 59],
        [255, 0, 58],
    ),
    "camvid": (
        "camvid",
        "test",
        "test/images/0001TP_008550.png",
        "test/masks/0001TP_008550.png",
        [0, 10, 255],
        [0, 10, 255],
    ),
    "camvid with void": (
        "camvid",
        "validation",
        "val/0016E5_07959.png",
        "valannot/0016E5_07959.png",
        [0, 10, 11],
        [0, 10, 255],
    ),
}
pytestmark = pytest.mark.filterwarnings("ignore:Found .* published")


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def write_pair(root, image, mask, values=(0, 1)):
    values = np.array([values], np.uint8)
    write(root / image, np.zeros((*values.shape, 3), np.uint8))
    write(root / mask, values)


def make_tree(root, key):
    name, split, image, mask, values, expected = TREES[key]
    write_pair(root, image, mask, values)
    if name == "pascal_context":
        listing = root / "ImageSets/SegmentationContext/train.txt"
        listing.parent.mkdir(parents=True)
        listing.write_text("2008_000002\n")
        write(root / "JPEGImages/2008_000003.jpg", np.zeros((4, 4, 3), np.uint8))
    return name, split, expected


@pytest.mark.parametrize("key", TREES)
def test_masks_become_train_ids(tmp_path, key):
    name, split, expected = make_tree(tmp_path, key)
    dataset = load_dataset(name, tmp_path, split)
    assert len(dataset) == 1
    assert dataset.num_classes == CLASSES[name]
    assert dataset.name == f"{name}/{split}"
    image, mask = dataset[0]
    assert image.shape == (1, len(expected), 3)
    assert mask.dtype == np.uint8
    assert mask.tolist() == [expected]
    assert dataset.subset([0])[0][1].tolist() == [expected]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ade20k", 151),
        ("coco_stuff raw", 11),
        ("coco_stuff raw", 182),
        ("coco_stuff train ids", 171),
        ("cityscapes label ids", 34),
        ("cityscapes train ids", 19),
        ("pascal_context", 60),
        ("camvid", 11),
        ("camvid with void", 12),
    ],
)
def test_a_value_that_the_data_set_does_not_have_is_named(tmp_path, key, value):
    name, split, _ = make_tree(tmp_path, key)
    _, _, image, mask, *_ = TREES[key]
    write_pair(tmp_path, image, mask, [value, 0])
    dataset = load_dataset(name, tmp_path, split)
    with pytest.raises(ValueError, match=rf"got {value}: .*{mask[-8:]}"):
        dataset[0]
    with pytest.raises(ValueError, match=rf"got {value}: "):
        dataset.check()


def test_the_known_values_are_listed_as_ranges(tmp_path):
    make_tree(tmp_path, "coco_stuff raw")
    write(tmp_path / TREES["coco_stuff raw"][3], np.full((1, 8), 25, np.uint8))
    dataset = load_dataset("coco_stuff", tmp_path, "validation")
    with pytest.raises(ValueError, match=r"values 0\.\.10, 12\.\.24, 26\.\.27, 30\.\."):
        dataset[0]


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_has_exactly_one_value_in_every_layout(name):
    for layout in DATASETS[name].layouts:
        if layout.label_map is not None:
            ids = layout.label_map[layout.label_map < 254]
            assert sorted(ids) == list(range(CLASSES[name]))


@pytest.mark.parametrize(
    ("name", "some"),
    [
        ("ade20k", {0: ("wall", "787878"), 149: ("flag", "5c00ff")}),
        ("coco_stuff", {11: ("stop sign", "0000e0"), 170: ("wood", "404000")}),
        ("cityscapes", {13: ("car", "00008e"), 18: ("bicycle", "770b20")}),
        ("pascal_context", {0: ("aeroplane", "b47878"), 58: ("wood", "1f00ff")}),
        ("camvid", {3: ("road", "804080"), 10: ("bicyclist", "0080c0")}),
    ],
)
def test_classes_and_colours(name, some):
    names, palette = read_classes(DATASETS[name].classes)
    assert len(names) == len(set(names)) == CLASSES[name]
    for i, (label, colour) in some.items():
        assert (names[i], palette[i].tobytes().hex()) == (label, colour)


def test_class_files_are_shipped():
    project = pathlib.Path(__file__).parents[2] / "pyproject.toml"
    settings = tomllib.loads(project.read_text())["tool"]["setuptools"]
    patterns = settings["package-data"]["keras_lrseg.data"]
    for info in DATASETS.values():
        assert any(info.classes.match(pattern) for pattern in patterns)


def test_published_sizes():
    sizes = {
        name: [number for _, number in info.splits.values()]
        for name, info in DATASETS.items()
    }
    assert sizes == {
        "ade20k": [20210, 2000],
        "coco_stuff": [118287, 5000],
        "cityscapes": [2975, 500],
        "pascal_context": [4998, 5105],
        "camvid": [367, 101, 233],
    }


@pytest.mark.filterwarnings("default")
def test_another_number_of_images_than_published_warns(tmp_path):
    name, split, _ = make_tree(tmp_path, "ade20k")
    with pytest.warns(UserWarning, match="Found 1 images of ade20k/train, where 20210"):
        load_dataset(name, tmp_path, split)


# ---- Several images


def test_pairs_are_sorted_and_paired_across_folders(tmp_path):
    keys = [
        f"{city}/{city}_00000{i}_000019" for city in ("bonn", "ulm") for i in (0, 1)
    ]
    for value, key in enumerate(reversed(keys)):
        image = f"leftImg8bit/train/{key}_leftImg8bit.png"
        write_pair(tmp_path, image, f"gtFine/train/{key}_gtFine_labelIds.png", [value])
    dataset = load_dataset("cityscapes", tmp_path, "train")
    assert [path.parent.name for path in dataset.images] == ["bonn"] * 2 + ["ulm"] * 2
    for image, mask in zip(dataset.images, dataset.masks, strict=True):
        assert mask.name == image.name.replace("leftImg8bit", "gtFine_labelIds")
        assert mask.parent.name == image.parent.name


@pytest.mark.parametrize("key", ["coco_stuff", "cityscapes"])
def test_train_id_files_are_preferred_where_they_are_complete(tmp_path, key):
    raw, ids = f"{key} raw", f"{key} train ids"
    if key == "cityscapes":
        raw = f"{key} label ids"
    name, split, image, raw_mask, *_ = TREES[raw]
    id_mask = raw_mask.replace("labelIds", "labelTrainIds")
    if key == "coco_stuff":
        id_mask = raw_mask.replace(".png", "_labelTrainIds.png")
    assert id_mask.rpartition("_")[2] == TREES[ids][3].rpartition("_")[2]
    write_pair(tmp_path, image, raw_mask, [7, 7])
    write_pair(tmp_path, image, id_mask, [1, 1])
    assert load_dataset(name, tmp_path, split)[0][1].tolist() == [[1, 1]]
    # A conversion that stopped half way.
    other = image.replace("139", "140").replace("000019", "000020")
    mask = raw_mask.replace("139", "140").replace("000019", "000020")
    write_pair(tmp_path, other, mask, [7, 7])
    dataset = load_dataset(name, tmp_path, split)
    expected = 0 if key == "cityscapes" else 7
    assert [mask.tolist() for _, mask in dataset] == [[[expected] * 2]] * 2


# ---- Trees that cannot be used


def test_unknown_names(tmp_path):
    with pytest.raises(ValueError, match=r"one of ade20k, .*camvid, got 'ade'"):
        load_dataset("ade", tmp_path, "train")
    with pytest.raises(ValueError, match="train or validation, got 'val'"):
        load_dataset("ade20k", tmp_path, "val")
    with pytest.raises(FileNotFoundError, match=r"No such folder: .*gone"):
        load_dataset("ade20k", tmp_path / "gone", "train")


@pytest.mark.parametrize("name", CLASSES)
def test_a_wrong_root_shows_the_expected_folders(tmp_path, name):
    (tmp_path / "Download").mkdir()
    with pytest.raises(FileNotFoundError) as error:
        load_dataset(name, tmp_path, "train")
    message, info = str(error.value), DATASETS[name]
    folder, _ = info.splits["train"]
    for layout in info.layouts:
        for pattern in (layout.images, layout.masks, layout.listing or ""):
            assert pattern.format(split=folder) in message
    assert "MISSING" in message
    assert "It holds: Download." in message
    assert info.page in message


def test_what_is_there_is_counted(tmp_path):
    _, _, image, *_ = TREES["ade20k"]
    write(tmp_path / image, np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(FileNotFoundError) as error:
        load_dataset("ade20k", tmp_path, "train")
    lines = str(error.value).splitlines()
    assert lines[1].split() == ["images/training/*.jpg", "1", "found"]
    assert lines[2].split() == ["annotations/training/*.png", "MISSING"]


def test_an_image_without_mask_is_named(tmp_path):
    make_tree(tmp_path, "cityscapes label ids")
    write(tmp_path / CITY.replace("000019", "000020"), np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(
        ValueError,
        match=r"1 of 2 images have no mask.*000020_leftImg.* needs .*gtFine_",
    ):
        load_dataset("cityscapes", tmp_path, "validation")


@pytest.mark.parametrize("others", ["2008_000002\n", ""])
def test_a_listed_image_that_is_not_there_is_named(others, tmp_path):
    make_tree(tmp_path, "pascal_context")
    listing = tmp_path / "ImageSets/SegmentationContext/train.txt"
    listing.write_text(f"{others}2008_000009\n")
    with pytest.raises(ValueError, match=r"1 of the images.*train\.txt.*2008_000009"):
        load_dataset("pascal_context", tmp_path, "train")


def test_list_that_is_no_text_is_named(tmp_path):
    make_tree(tmp_path, "pascal_context")
    (tmp_path / "ImageSets/SegmentationContext/train.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"names in UTF-8: .*train\.txt"):
        load_dataset("pascal_context", tmp_path, "train")


def test_hidden_folders_and_the_case_of_suffixes_do_not_matter(tmp_path):
    make_tree(tmp_path, "pascal_context")
    folder = tmp_path / "JPEGImages"
    (folder / "2008_000002.jpg").rename(folder / "2008_000002.JPG")
    write(folder / ".ipynb_checkpoints" / "2008_000002.jpg", np.zeros((4, 4, 3), "u1"))
    (path,) = load_dataset("pascal_context", tmp_path, "train").images
    assert path.name == "2008_000002.JPG"


def test_two_images_of_one_name(tmp_path):
    make_tree(tmp_path, "camvid")
    image = TREES["camvid"][2].replace("png", "jpg")
    write(tmp_path / image, np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(ValueError, match="Two images of one name"):
        load_dataset("camvid", tmp_path, "test")
