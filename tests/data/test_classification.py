import numpy as np
import pytest
from PIL import Image

from keras_lrseg.data import ClassificationDataset


@pytest.fixture
def root(tmp_path, rng):
    """Three classes with 3, 1 and 2 images, of differing sizes and suffixes."""
    for name, files in {
        "n02": ("b.JPEG", "a.JPEG", "c.png"),
        "n01": ("x.jpg",),
        "n10": ("y.bmp", "z.jpeg"),
    }.items():
        (tmp_path / name).mkdir()
        for i, file in enumerate(files):
            pixels = rng.integers(0, 256, (20 + i, 30 - i, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / file)
    (tmp_path / "LICENSE.txt").write_text("")
    (tmp_path / ".hidden").mkdir()
    return tmp_path


def test_folders_are_classes(root):
    dataset = ClassificationDataset.from_folders(root)
    assert dataset.classes == ("n01", "n02", "n10")
    assert dataset.num_classes == 3
    assert dataset.name == root.name
    names = [path.rpartition("/")[2] for path in dataset.images]
    assert names == ["x.jpg", "a.JPEG", "b.JPEG", "c.png", "y.bmp", "z.jpeg"]
    assert dataset.labels.tolist() == [0, 1, 1, 1, 2, 2]
    assert dataset.check().tolist() == [1, 3, 2]
    image, label = dataset[3]
    assert (image.dtype, image.shape, label) == (np.uint8, (22, 28, 3), 1)


def test_classes_of_the_training_split_number_those_of_another(root):
    classes = ("n00", "n02", "n01", "n10")
    dataset = ClassificationDataset.from_folders(root, classes, name="val")
    assert dataset.labels.tolist() == [2, 1, 1, 1, 3, 3]
    assert dataset.check().tolist() == [0, 3, 1, 2]
    assert dataset.name == "val"


def test_subset(root):
    part = ClassificationDataset.from_folders(root).subset([4, 0])
    assert [label for _, label in part] == [2, 0]
    assert part.num_classes == 3


def test_grey_and_cmyk_become_rgb(root):
    Image.new("L", (8, 9), 7).save(root / "n01/x.jpg")
    Image.new("CMYK", (8, 9)).save(root / "n02/a.JPEG")
    dataset = ClassificationDataset.from_folders(root)
    assert dataset[0][0].shape == dataset[1][0].shape == (9, 8, 3)


# ---- What cannot be used


def test_missing_root(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No such folder: .*gone"):
        ClassificationDataset.from_folders(tmp_path / "gone")


def test_images_outside_the_class_folders(root):
    Image.new("RGB", (8, 8)).save(root / "ILSVRC2012_val_00000001.JPEG")
    with pytest.raises(
        ValueError, match=r"1 images of .* first: ILSVRC2012_val_0.*ground_truth"
    ):
        ClassificationDataset.from_folders(root)


def test_an_unknown_folder(root):
    with pytest.raises(ValueError, match=r"1 folders of .* none of the 2 .*first: n02"):
        ClassificationDataset.from_folders(root, ["n01", "n10"])


def test_no_images(tmp_path):
    (tmp_path / "n01").mkdir()
    (tmp_path / "n02").mkdir()
    with pytest.raises(ValueError, match=r"Found no image .*n01440764/x\.JPEG"):
        ClassificationDataset.from_folders(tmp_path)


def test_one_class(tmp_path):
    (tmp_path / "n01").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "n01/a.png")
    with pytest.raises(ValueError, match="2 classes or more, got 1"):
        ClassificationDataset.from_folders(tmp_path)


def test_as_many_labels_as_images():
    with pytest.raises(ValueError, match="2 images and 1 labels"):
        ClassificationDataset(np.zeros((2, 8, 8, 3), np.uint8), [0], ("a", "b"), "x")
    with pytest.raises(ValueError, match="at least one image"):
        ClassificationDataset([], [], ("a", "b"), "x")


def test_label_of_no_class():
    with pytest.raises(ValueError, match=r"labels 0\.\.1, got 0\.\.7"):
        ClassificationDataset(np.zeros((2, 8, 8, 3), np.uint8), [0, 7], "ab", "x")


def test_corrupt_images_are_named_and_left_out_when_asked(root):
    (root / "n02/b.JPEG").write_bytes(b"\xff\xd8 no picture")
    dataset, calls = ClassificationDataset.from_folders(root), []
    with pytest.raises(ValueError, match=r"Cannot read the image .*n02/b\.JPEG"):
        dataset.check()
    kept, messages = dataset.without_corrupt(lambda *done: calls.append(done))
    assert len(messages) == 1
    assert "n02/b.JPEG" in messages[0]
    assert kept.check().tolist() == [1, 2, 2]
    assert calls[-1] == (6, 6)
