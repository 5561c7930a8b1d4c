"""Whole-image inference, one image at a time at its own size."""

from collections.abc import Callable

import keras
import numpy as np

from keras_lrseg.evaluation.scores import Scores, confusion_matrix


def predict_labels(model, image: np.ndarray) -> np.ndarray:
    """Return the label map of one image.

    Args:
        model: a segmenter from images (1, H, W, 3) to logits; logits at another size
            are enlarged to the image's.
        image: (H, W, 3), what the model takes: RGB 0..255 for ours.

    Returns:
        uint8 (H, W).

    Raises:
        ValueError: if the image is not (H, W, 3).
    """
    if image.ndim != 3 or image.shape[-1] != 3:
        raise ValueError(
            f"image expects the shape (height, width, 3). Received: {image.shape}"
        )
    return labels_of(model.predict_on_batch(image[None]), image.shape[:2])


def labels_of(logits: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the label map, uint8 (H, W), of one image's logits, (1, h, w, K)."""
    if logits.shape[1:3] != size:
        logits = keras.ops.image.resize(
            logits, size, "bilinear", data_format="channels_last"
        )
        logits = keras.ops.convert_to_numpy(logits)
    return np.argmax(logits[0], axis=-1).astype("uint8")


def evaluate(model, dataset, progress: Callable | None = None) -> Scores:
    """Score a segmenter on a dataset, each image at its own size.

    On JAX every new image size compiles the model once.

    Args:
        model: a segmenter.
        dataset: a `SegmentationDataset`, or any sequence of (image, mask) with
            `classes`.
        progress: wraps the indices, for example `tqdm.tqdm`.

    Raises:
        ValueError: if the model has another number of classes.
    """
    check_classes(model, dataset)
    k = len(dataset.classes)
    confusion = np.zeros((k, k), "int64")
    indices = range(len(dataset))
    for i in progress(indices) if progress else indices:
        image, mask = dataset[i]
        confusion += confusion_matrix(mask, predict_labels(model, image), k)
    return Scores(confusion, tuple(dataset.classes))


def check_classes(model, dataset) -> None:
    """Raise a ValueError unless the model has as many classes as the data."""
    if model.output_shape[-1] != len(dataset.classes):
        raise ValueError(
            f"The model has {model.output_shape[-1]} classes and the data "
            f"{len(dataset.classes)}: {', '.join(dataset.classes)}. Give the classes "
            "the model was trained on."
        )
