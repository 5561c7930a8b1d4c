"""The real builders of tensorflow-datasets, run on tiny archives; no network."""

import io
import itertools
import sys
import tarfile
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_lrseg.data import (
    ClassificationDataset,
    SegmentationDataset,
    classification_pipeline,
    load_tfds,
    training_pipeline,
    validation_pipeline,
)

SHAPE = (1024, 2048)  # what the builder of Cityscapes expects
NOT_PREPARED = r"no files of cityscapes .*by index.*file_format=\"array_record\""


@pytest.fixture(scope="module")
def tfds():
    pytest.importorskip("importlib_resources")  # tensorflow-datasets forgot to ask
    module = pytest.importorskip("tensorflow_datasets")
    module.disable_progress_bar()
    return module


def encoded(array, kind):
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind)
    return file.getvalue()


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """Two street scenes a split, and three photographs of two ImageNet classes."""
    folder = tmp_path_factory.mktemp("archives")
    images = zipfile.ZipFile(folder / "leftImg8bit_trainvaltest.zip", "w")
    masks = zipfile.ZipFile(folder / "gtFine_trainvaltest.zip", "w")
    with images, masks:
        for split, i in itertools.product(("train", "val", "test"), (0, 1)):
            image = np.full((*SHAPE, 3), 50 + i, np.uint8)
            mask = np.full(SHAPE, (7, 26)[i], np.uint8)  # road, car
            mask[:64] = 4  # ignored
            name = f"{split}/ulm/ulm_00000{i}_000019_"
            images.writestr(f"leftImg8bit/{name}leftImg8bit.png", encoded(image, "png"))
            masks.writestr(f"gtFine/{name}gtFine_labelIds.png", encoded(mask, "png"))
    with tarfile.open(folder / "ILSVRC2012_img_train.tar", "w") as outer:
        for synset, modes in {"n01440764": ["RGB", "L"], "n15075141": ["RGB"]}.items():
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode="w") as archive:
                for i, mode in enumerate(modes):
                    shape = (30, 40, 3) if mode == "RGB" else (30, 40)
                    picture = encoded(np.full(shape, 100 + i, np.uint8), "jpeg")
                    add(archive, f"{synset}_{i}.JPEG", picture)
            add(outer, f"{synset}.tar", inner.getvalue())
    with tarfile.open(folder / "ILSVRC2012_img_val.tar", "w") as archive:
        picture = encoded(np.zeros((30, 40, 3), np.uint8), "jpeg")
        add(archive, "ILSVRC2012_val_00000001.JPEG", picture)
    return folder


def add(archive, name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


@pytest.fixture(scope="module")
def prepared(tfds, archives, tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    config = tfds.download.DownloadConfig(manual_dir=archives)
    for name in ("cityscapes", "imagenet2012"):
        builder = tfds.builder(name, data_dir=folder, file_format="array_record")
        builder.download_and_prepare(download_config=config)
    return folder


def test_cityscapes_has_train_ids(prepared):
    dataset = load_tfds("cityscapes", "validation", prepared)
    assert isinstance(dataset, SegmentationDataset)
    assert (dataset.name, len(dataset)) == ("cityscapes/validation", 2)
    assert (dataset.num_classes, dataset.classes[13]) == (19, "car")
    for image, mask in dataset:
        assert image.shape == (*SHAPE, 3)
        assert mask.shape == SHAPE
        assert (mask[:64] == 255).all()
        assert (mask[64:] == {50: 0, 51: 13}[image[0, 0, 0]]).all()
    counts = dataset.check()
    assert counts[0] == counts[13] == counts.sum() / 2
    assert dataset.subset([1]).check().sum() == counts[0]


def test_it_feeds_the_pipelines(prepared):
    dataset = load_tfds("cityscapes", "train", prepared)
    stream = training_pipeline(dataset, (64, 64), 4, photometric=False)
    first, again = (list(stream.take(2).as_numpy_iterator()) for _ in range(2))
    for (images, masks), (same, _) in zip(first, again, strict=True):
        np.testing.assert_array_equal(images, same)
        assert {*np.unique(masks)} <= {0, 13, 255}
        assert ((images[..., 0] == 51) == (masks == 13))[masks != 255].all()
    ((_, masks),) = validation_pipeline(dataset, (64, 128), 2)
    assert {*np.unique(masks)} == {0, 13, 255}


def test_imagenet(prepared):
    dataset = load_tfds("imagenet2012", "train", prepared)
    assert isinstance(dataset, ClassificationDataset)
    assert dataset.num_classes == 1000
    assert (dataset.classes[0], dataset.classes[-1]) == ("n01440764", "n15075141")
    seen = sorted((int(image[0, 0, 0]), label) for image, label in dataset)
    assert seen == [(100, 0), (100, 999), (101, 0)]
    assert all(image.shape == (30, 40, 3) for image, _ in dataset)
    assert len(load_tfds("imagenet2012", "train[:2]", prepared)) == 2
    images, labels = next(iter(classification_pipeline(dataset, (16, 16), 4)))
    assert images.shape == (4, 16, 16, 3)
    np.testing.assert_allclose(tf.reduce_sum(labels, 1), 1, rtol=1e-5)


def test_mocked_values_outside_the_label_ids_are_named(tfds):
    pixels = np.full((4, 6), 40, np.uint8)
    item = {
        "image_left": encoded(np.zeros((4, 6, 3), np.uint8), "png"),
        "segmentation_label": encoded(pixels, "png"),
    }
    with tfds.testing.mock_data(as_data_source_fn=lambda *_, **__: [item, item]):
        dataset = load_tfds("cityscapes", "train")
    message = r"values 0\.\.33, 255, got 40: segmentation_label 1 of cityscapes/train"
    with pytest.raises(ValueError, match=message):
        dataset[1]
    item["image_left"] = b"no picture"
    with pytest.raises(ValueError, match="the image image_left 0 of cityscapes/train"):
        dataset[0]


def test_nothing_prepared(tfds, tmp_path):
    with pytest.raises(FileNotFoundError, match=NOT_PREPARED):
        load_tfds("cityscapes", "train", tmp_path)


def test_another_file_format(tfds, archives, tmp_path):
    builder = tfds.builder("imagenet2012", data_dir=tmp_path, file_format="tfrecord")
    config = tfds.download.DownloadConfig(manual_dir=archives)
    builder.download_and_prepare(download_config=config)
    message = NOT_PREPARED.replace("cityscapes", "imagenet2012")
    with pytest.raises(FileNotFoundError, match=message):
        load_tfds("imagenet2012", "train", tmp_path)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("scene_parse150", r'instances, not ADE20K.*load_dataset\("ade20k"'),
        ("coco/2017_panoptic", r'panoptic.*load_dataset\("coco_stuff"'),
        ("mnist", "got 'mnist'"),
    ],
)
def test_other_names_are_refused_with_the_reason(name, reason):
    with pytest.raises(ValueError, match=reason):
        load_tfds(name, "train")


def test_without_tensorflow_datasets(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ImportError, match=r"pip install keras-lrseg\[tfds\]"):
        load_tfds("cityscapes", "train")
