"""Data sets that tensorflow-datasets has prepared, read by index.

The pipelines and the evaluation ask for element i. `tfds.data_source` gives that for
files of the format array_record, without TensorFlow's graph; TFRecord files can only be
read from their beginning. Pictures are decoded here, as those of folders are.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from keras_lrseg.data.class_names import read_classes
from keras_lrseg.data.classification import ClassificationDataset
from keras_lrseg.data.dataset import SegmentationDataset
from keras_lrseg.data.datasets import CITYSCAPES_IDS, DATASETS
from keras_lrseg.data.files import Record

NOT_THERE = {
    "scene_parse150": "It downloads the annotations of instances, not ADE20K's 150 "
    'classes. Use load_dataset("ade20k", root, split).',
    "coco": "It has panoptic annotations, not COCO-Stuff's 171 classes. Use "
    'load_dataset("coco_stuff", root, split).',
}


def load_tfds(
    name: str, split: str, data_dir: str | Path | None = None
) -> SegmentationDataset | ClassificationDataset:
    """A split that tensorflow-datasets has prepared on this machine.

    Both data sets must be downloaded by hand, after agreeing to their terms; then

        builder = tfds.builder("cityscapes", data_dir=..., file_format="array_record")
        builder.download_and_prepare()

    turns the archives into files that this function reads. Example:

        dataset = load_tfds("cityscapes", "train", "/data/tensorflow_datasets")

    Args:
        name: "cityscapes" (19 classes, from the label ids) or "imagenet2012" (1,000).
        split: "train" or "validation", or a part such as "train[:10%]".
        data_dir: where it was prepared; by default tensorflow-datasets' own folder.

    Raises: ValueError for another name, FileNotFoundError where the files are not
        there or cannot be read by index, ImportError without tensorflow-datasets.
    """
    if name not in ("cityscapes", "imagenet2012"):
        reason = NOT_THERE.get(name.partition("/")[0], "")
        raise ValueError(
            f'Expected "cityscapes" or "imagenet2012", got {name!r}. {reason}'.strip()
        )
    tfds = _tensorflow_datasets()
    pictures = {
        "cityscapes": ("image_left", "segmentation_label"),
        "imagenet2012": ("image",),
    }[name]
    builder = tfds.builder(name, data_dir=data_dir)
    try:
        source = builder.as_data_source(
            split, decoders={key: tfds.decode.SkipDecoding() for key in pictures}
        )
    except NotImplementedError as error:  # also where nothing is prepared
        raise FileNotFoundError(
            f"Found no files of {name} that can be read by index in {builder.data_dir}."
            f' Type: tfds.builder("{name}", data_dir=..., file_format="array_record")'
            ".download_and_prepare(), with a data_dir that does not hold it in another "
            "format."
        ) from error
    label = f"{name}/{split}"

    def record(key):
        return _Column(
            source, lambda i, item: Record(item[key], f"{key} {i} of {label}")
        )

    if name == "imagenet2012":
        labels = _Column(source, lambda _, item: int(item["label"]))
        classes = tuple(builder.info.features["label"].names)
        return ClassificationDataset(record("image"), labels, classes, label)
    images, masks = map(record, pictures)
    names, palette = read_classes(DATASETS[name].classes)
    return SegmentationDataset(images, masks, names, palette, label, CITYSCAPES_IDS)


class _Column(Sequence):
    """One value of each element of a source, taken when asked for."""

    def __init__(self, source: Sequence, take: Callable[[int, dict], Any]):
        self.source, self.take = source, take

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Any:
        return self.take(index, self.source[index])


def _tensorflow_datasets() -> Any:
    try:
        return importlib.import_module("tensorflow_datasets")
    except ImportError as error:
        raise ImportError(
            "load_tfds needs `tensorflow_datasets`, which cannot be imported "
            f"({error}). Type: pip install keras-lrseg[tfds]"
        ) from error
