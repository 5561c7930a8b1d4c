"""Images and masks: what a dataset is, the demo data, augmentation, label pictures."""

from keras_lrseg.data.augment import MEAN_COLOUR
from keras_lrseg.data.class_names import read_classes
from keras_lrseg.data.classification import ClassificationDataset
from keras_lrseg.data.classification_pipeline import (
    check_classification_augmentation,
    classification_pipeline,
    classification_validation,
)
from keras_lrseg.data.dataset import (
    IGNORE_LABEL,
    SegmentationDataset,
    load_demo,
    load_images,
)
from keras_lrseg.data.datasets import DATASETS, load_dataset
from keras_lrseg.data.files import (
    UNKNOWN_LABEL,
    CorruptFile,
    Record,
    atomic_path,
    check_labels,
    load_image,
    load_mask,
    save_image,
    save_mask,
)
from keras_lrseg.data.from_tfds import load_tfds
from keras_lrseg.data.pictures import colour_labels, default_palette, overlay
from keras_lrseg.data.pipeline import (
    check_augmentation,
    training_pipeline,
    validation_pipeline,
)

__all__ = [
    "DATASETS",
    "IGNORE_LABEL",
    "MEAN_COLOUR",
    "UNKNOWN_LABEL",
    "ClassificationDataset",
    "CorruptFile",
    "Record",
    "SegmentationDataset",
    "atomic_path",
    "check_augmentation",
    "check_classification_augmentation",
    "check_labels",
    "classification_pipeline",
    "classification_validation",
    "colour_labels",
    "default_palette",
    "load_dataset",
    "load_demo",
    "load_image",
    "load_images",
    "load_mask",
    "load_tfds",
    "overlay",
    "read_classes",
    "save_image",
    "save_mask",
    "training_pipeline",
    "validation_pipeline",
]
