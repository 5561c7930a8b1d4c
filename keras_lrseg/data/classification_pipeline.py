"""Batches of images and soft labels, as tf.data on every Keras backend.

The augmentation of the recipes for DeiT, Swin and the papers' ImageNet training. It
runs in NumPy and Pillow, in parallel threads: a layer of Keras, whose random numbers
depend on how often it was called before, could not repeat a stream from its middle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from keras_lrseg.data.classification import ClassificationDataset
from keras_lrseg.data.classification_augment import (
    CENTRE,
    augment_one,
    centred_box,
    mix,
    read_box,
    soft_labels,
)
from keras_lrseg.data.randaugment import LARGEST
from keras_lrseg.data.streams import (
    AUGMENTATION,
    MIXING,
    batched,
    check_position,
    check_sizes,
    guarded,
    position,
    shuffled,
    tensorflow,
)

if TYPE_CHECKING:
    import tensorflow as tf


def classification_pipeline(
    dataset: ClassificationDataset,
    size: tuple[int, int],
    batch_size: int,
    *,
    seed: int = 0,
    scale: tuple[float, float] = (0.08, 1.0),
    magnitude: float = 9.0,
    erasing: float = 0.25,
    mixup: float = 0.8,
    cutmix: float = 1.0,
    label_smoothing: float = 0.1,
    start_step: int = 0,
    shard: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """An endless stream of augmented batches: give `fit` its `steps_per_epoch`.

    Each image is cropped at random and resized (bicubic), flipped left to right with
    probability 0.5, changed by RandAugment, and partly erased. Then each two
    neighbours of the stream are mixed with each other, with one share for the pair.

    Element i of the stream is a pure function of (dataset, seed, i) and of the options:
    it depends neither on the machine's parallelism nor on where the stream began, nor
    on the batch size, as long as that is even.

    Args:
        dataset: what to read.
        size: (height, width) of the batches, in pixels.
        batch_size: images per batch of this shard, an even number.
        seed: any integer.
        scale: range of the crop's share of the image's area.
        magnitude: of RandAugment, 0..10; 0 turns it off.
        erasing: probability that a rectangle is erased.
        mixup: parameter of the Beta distribution of MixUp; 0 turns it off.
        cutmix: likewise of CutMix. With both, each pair gets one of them.
        label_smoothing: 0..1.
        start_step, shard: as in `training_pipeline`.

    Returns: batches (images uint8 (B, h, w, 3), labels float32 (B, K), each row's sum
        1), static shapes: for `CategoricalCrossentropy`.
    Raises: ValueError for impossible arguments; from the stream,
        `tf.errors.InvalidArgumentError` with the name of a file that cannot be used.
    """
    check_sizes(size, batch_size)
    check_position(start_step, shard)
    check_classification_augmentation(
        batch_size, scale, magnitude, erasing, mixup, cutmix, label_smoothing
    )
    tf = tensorflow()

    def generator(use, i):
        return np.random.default_rng([seed % 2**64, use, int(i)])

    @guarded
    def read(i, *indices):
        images = [
            augment_one(
                dataset.images[index],
                size,
                generator(AUGMENTATION, i + k),
                scale=scale,
                magnitude=magnitude,
                erasing=erasing,
            )
            for k, index in enumerate(indices)
        ]
        images, share = mix(np.stack(images), mixup, cutmix, generator(MIXING, i))
        labels = [dataset.labels[index] for index in indices]
        return images, soft_labels(labels, share, dataset.num_classes, label_smoothing)

    def pair(p):
        """Elements i and i + 1, of which i is even."""
        i = position(2 * p, batch_size, shard)
        indices = [shuffled(i + k, len(dataset), seed) for k in (0, 1)]
        images, labels = tf.numpy_function(
            read, [i, *indices], (tf.uint8, tf.float32), stateful=False
        )
        return (
            tf.ensure_shape(images, (2, *size, 3)),
            tf.ensure_shape(labels, (2, dataset.num_classes)),
        )

    def flat(images, labels):
        return (
            tf.reshape(images, (batch_size, *size, 3)),
            tf.reshape(labels, (batch_size, dataset.num_classes)),
        )

    numbers = tf.data.Dataset.counter(start_step * batch_size // 2)
    return batched(numbers, pair, batch_size // 2).map(flat)


def classification_validation(
    dataset: ClassificationDataset, size: tuple[int, int], batch_size: int
) -> tf.data.Dataset:
    """One pass in order, for `fit`'s `validation_data`.

    Each image is resized (bicubic) so that its short side is size / 0.875, and its
    centre is taken: 224 of 256. In one step: only the centre is resampled. This watches
    a training; a result to report comes of `evaluate_classifier`, which rounds sizes
    as the papers' code does.

    Args:
        dataset: what to read.
        size: (height, width) of the batches, in pixels.
        batch_size: images per batch; the last batch holds the rest.

    Returns: ceil(len(dataset) / batch_size) batches (images uint8 (B, h, w, 3), labels
        float32 (B, K), one-hot). Raises: as `classification_pipeline`.
    """
    check_sizes(size, batch_size)
    tf = tensorflow()

    @guarded
    def read(i):
        image = read_box(
            dataset.images[i],
            size,
            lambda whole: centred_box(whole, size[1] / size[0], CENTRE),
        )
        return np.asarray(image), np.int64(dataset.labels[i])

    def element(i):
        image, label = tf.numpy_function(
            read, [i], (tf.uint8, tf.int64), stateful=False
        )
        label = tf.one_hot(tf.ensure_shape(label, ()), dataset.num_classes)
        return tf.ensure_shape(image, (*size, 3)), label

    numbers = tf.data.Dataset.range(len(dataset))
    return batched(numbers, element, batch_size, drop_remainder=False)


def check_classification_augmentation(
    batch_size: int,
    scale: tuple[float, float],
    magnitude: float,
    erasing: float,
    mixup: float,
    cutmix: float,
    label_smoothing: float,
) -> None:
    """Raises a ValueError for options that `classification_pipeline` cannot follow."""
    if batch_size % 2:
        raise ValueError(f"Expected an even batch_size, got {batch_size}.")
    if not 0 < scale[0] <= scale[1] <= 1:
        raise ValueError(f"Expected scale (low, high) in 0..1, got {scale}.")
    _check_range("magnitude", magnitude, LARGEST)
    _check_range("erasing", erasing, 1)
    _check_range("mixup", mixup, np.inf)
    _check_range("cutmix", cutmix, np.inf)
    _check_range("label_smoothing", label_smoothing, 1)


def _check_range(name: str, value: float, high: float) -> None:
    if not 0 <= value <= high:
        raise ValueError(f"Expected {name} in 0..{high}, got {value}.")
