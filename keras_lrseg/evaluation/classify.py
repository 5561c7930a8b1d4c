"""Score an image classifier as ImageNet's validation does."""

import csv
import dataclasses
import io
import json
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from keras_lrseg.evaluation.scores import number

CROP_SHARE = 0.875  # of the short side: 224 of 256 pixels


@dataclasses.dataclass(frozen=True)
class ClassifierScores:
    """Top-1 and top-5 accuracy; every value is a fraction in [0, 1].

    Args:
        labels: (N,), the true label of each image.
        ranks: (N,), how many labels the model prefers to the true one.
        classes: K names.
    """

    labels: np.ndarray
    ranks: np.ndarray
    classes: tuple[str, ...]

    @property
    def top1(self) -> float:
        """Share of the images whose true label has the largest logit."""
        return float((self.ranks < 1).mean())

    @property
    def top5(self) -> float:
        """Share of the images whose true label is among the five largest logits."""
        return float((self.ranks < 5).mean())

    def __str__(self) -> str:
        count = len(self.ranks)
        return f"top-1 {self.top1:.4f}, top-5 {self.top5:.4f} of {count} images"

    def to_json(self) -> str:
        """The accuracies as one JSON object."""
        return json.dumps(
            {
                "top1": number(self.top1),
                "top5": number(self.top5),
                "images": len(self.ranks),
            },
            indent=2,
        )

    def to_csv(self) -> str:
        """A line for each class; its accuracies are empty where it has no image."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("class", "images", "top1", "top5"))
        for label, name in enumerate(self.classes):
            ranks = self.ranks[self.labels == label]
            tops = [number((ranks < k).mean()) for k in (1, 5)] if len(ranks) else []
            writer.writerow((name, len(ranks), *(tops or ("", ""))))
        return text.getvalue()


def evaluate_classifier(
    model,
    dataset,
    size: int = 224,
    batch_size: int = 1,
    progress: Callable | None = None,
) -> ClassifierScores:
    """Score a classifier on the middle of each image.

    Args:
        model: a classifier from images (B, size, size, 3) to logits (B, K).
        dataset: a sequence of (image uint8 (H, W, 3), label) with `classes`.
        size: side of the crop in pixels, from 32; the papers use 224 and 384. The
            image's short side is resized to size / 0.875 first.
        batch_size: images at a time.
        progress: wraps the indices, for example `tqdm.tqdm`.

    Raises:
        ValueError: if the model is no classifier of the data's classes, a label is
            none of them, or there is no image.
    """
    _check(model, dataset, size, batch_size)
    labels, ranks, batch = [], [], []
    indices = range(len(dataset))
    crops = _crops(dataset, size)
    for i in progress(indices) if progress else indices:
        crop, label = next(crops)
        if not 0 <= label < len(dataset.classes):
            raise ValueError(
                f"Labels must be 0 or more and below {len(dataset.classes)}. "
                f"Received: {label} for image {i}"
            )
        labels.append(label)
        batch.append(crop)
        if len(batch) == batch_size or i == len(dataset) - 1:
            logits = np.asarray(model.predict_on_batch(np.stack(batch)), "float32")
            ranks.append(_ranks(logits, np.array(labels[-len(batch) :])))
            batch.clear()
    return ClassifierScores(
        np.array(labels), np.concatenate(ranks), tuple(dataset.classes)
    )


def centre_crop(image: np.ndarray, size: int) -> np.ndarray:
    """Return the middle of an image, as DeiT's code and its followers cut it.

    Args:
        image: uint8 (H, W, 3).
        size: side of the crop; the short side becomes floor(size / 0.875) before,
            bicubic with antialiasing.

    Returns:
        uint8 (size, size, 3).
    """
    from PIL import Image

    height, width = image.shape[:2]
    short, side = min(height, width), int(size / CROP_SHARE)
    height, width = side * height // short, side * width // short
    picture = Image.fromarray(image).resize((width, height), Image.BICUBIC)
    top, left = round((height - size) / 2), round((width - size) / 2)
    return np.asarray(picture)[top : top + size, left : left + size]


def _crops(dataset, size) -> Iterator[tuple[np.ndarray, int]]:
    """Crops and labels in order, read by threads a little ahead of the model."""

    def read(i):
        image, label = dataset[i]
        return centre_crop(image, size), label

    threads = os.cpu_count() or 1
    with ThreadPoolExecutor(threads) as pool:
        ahead = deque()
        for i in range(len(dataset)):
            ahead.append(pool.submit(read, i))
            if len(ahead) > 4 * threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _check(model, dataset, size, batch_size):
    shape = getattr(model, "output_shape", None)
    if not isinstance(shape, tuple) or len(shape) != 2:
        raise ValueError(
            "Expected an image classifier, with logits (batch, classes). Received: "
            f"{type(model).__name__} with the output shape {shape}"
        )
    if shape[-1] != len(dataset.classes):
        raise ValueError(
            f"The model has {shape[-1]} classes and the data {len(dataset.classes)}."
        )
    if len(dataset) == 0:
        raise ValueError("Expected at least one image, got none.")
    if size < 32 or batch_size < 1:
        raise ValueError(
            "size expects pixels from 32, batch_size images from 1. Received: "
            f"size={size}, batch_size={batch_size}"
        )


def _ranks(logits, labels):
    """How many logits (B, K) come before that of the true label, (B,).

    Equal logits count in the order of labels, NaN before everything: a model that
    says nothing gets no credit.
    """
    true = np.take_along_axis(logits, labels[:, None], axis=1)
    before = np.arange(logits.shape[1]) < labels[:, None]
    ahead = ~(logits <= true) | (before & (logits == true))
    return ahead.sum(axis=1)
