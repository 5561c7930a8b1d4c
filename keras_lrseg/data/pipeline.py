"""Batches of images and masks for `model.fit`, as tf.data on every Keras backend.

Pairs are read by the dataset itself, in threads that let go of Python's lock while they
decode: training and evaluation see the same pixels, and a file that cannot be used
raises the same error, with its name, in both. The mask comes first, since it decides
about the crop; of a JPEG only what the crop needs is decoded then, and bytes that are
damaged elsewhere are not looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from keras_lrseg.data.augment import (
    MEAN_COLOUR,
    augment,
    gather_window,
    pad,
    resize_window,
    scaled_size,
    to_bytes,
)
from keras_lrseg.data.dataset import IGNORE_LABEL, SegmentationDataset
from keras_lrseg.data.files import required
from keras_lrseg.data.jpeg import Jpeg, decode_part, load_lazily
from keras_lrseg.data.streams import (
    AUGMENTATION,
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


LARGEST_SCALE, LARGEST_SIDE = 100, 2**14  # beyond them sizes may not be integers


def training_pipeline(
    dataset: SegmentationDataset,
    crop: tuple[int, int],
    batch_size: int,
    *,
    seed: int = 0,
    scale: tuple[float, float] = (0.5, 2.0),
    short_side: int | None = None,
    max_class_share: float = 0.75,
    flip: bool = True,
    photometric: bool = True,
    start_step: int = 0,
    shard: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """An endless stream of augmented batches: give `fit` its `steps_per_epoch`.

    Each image is scaled by a random factor, cropped at random, flipped left to right
    with probability 0.5 and distorted in colour; where it is smaller than the crop it
    is padded at the bottom and right with the mean colour, its mask with 255. Every
    epoch is a new permutation of the dataset; a batch may span two epochs.

    Element i of the stream is a pure function of (dataset, seed, i) and of the options:
    it depends neither on the machine's parallelism nor on where the stream began.

    Args:
        dataset: what to read.
        crop: (height, width) of the batches, in pixels.
        batch_size: images per batch of this shard.
        seed: any integer.
        scale: range of the factor, drawn uniformly.
        short_side: what a factor of 1 means: the short side in pixels (512 for ADE20K
            and COCO-Stuff in the papers' recipes), or None for the image's own size.
        max_class_share: the crop is drawn up to 10 times until no class covers more
            than this share of its labelled pixels; 1.0 takes the first with a label.
        flip: whether to flip.
        photometric: whether to distort colours.
        start_step: batches to skip; continues a stream exactly, at no cost.
        shard: (index, count) of this process. The shards' batches, in order, make up
            the batch of batch_size * count that one process would get. The stream is
            already divided: turn off `fit`'s own (`auto_shard_dataset=False`).

    Returns: batches (images uint8 (B, h, w, 3), masks uint8 (B, h, w)), static shapes.
    Raises: ValueError for impossible arguments; from the stream,
        `tf.errors.InvalidArgumentError` with the name of a file that cannot be used.
    """
    check_sizes(crop, batch_size)
    check_position(start_step, shard)
    check_augmentation(scale, short_side, max_class_share)
    tf = tensorflow()
    load = _loader(dataset)

    def element(n):
        """Element n of this shard is element i of the whole stream."""
        i = position(n, batch_size, shard)
        part, mask = load(shuffled(i, len(dataset), seed))
        key = tf.random.experimental.stateless_fold_in(
            tf.constant([seed, AUGMENTATION], tf.int64), i
        )
        return augment(
            part,
            mask,
            key,
            crop,
            scale=scale,
            short_side=short_side,
            max_class_share=max_class_share,
            flip=flip,
            photometric=photometric,
        )

    numbers = tf.data.Dataset.counter(start_step * batch_size)
    return batched(numbers, element, batch_size)


def validation_pipeline(
    dataset: SegmentationDataset, size: tuple[int, int], batch_size: int
) -> tf.data.Dataset:
    """One pass in order, for `fit`'s `validation_data`.

    Each pair is resized to fit into `size`, its aspect kept, and padded at the bottom
    and right with the mean colour and 255. The last batch is filled up with blank
    images whose masks are all 255, so that every batch has the same static shape. This
    watches a training; a result to report is measured at the images' own sizes by
    `keras_lrseg.evaluation`.

    Args:
        dataset: what to read.
        size: (height, width) of the batches, in pixels.
        batch_size: images per batch.

    Returns: ceil(len(dataset) / batch_size) batches (images uint8 (B, h, w, 3), masks
        uint8 (B, h, w)). Raises: as `training_pipeline`.
    """
    check_sizes(size, batch_size)
    tf = tensorflow()
    load = _loader(dataset)

    def element(i):
        part, mask = load(i)
        source = tf.shape(mask)
        factor = tf.reduce_min(
            tf.constant(size, tf.float32) / tf.cast(source, tf.float32)
        )
        window = tf.minimum(scaled_size(mask, factor), size)
        image = resize_window(part, source, window, [0, 0], window)
        mask = gather_window(mask, window, [0, 0], window)
        return pad(to_bytes(image), mask, size)

    batches = -(-len(dataset) // batch_size)
    numbers = tf.data.Dataset.range(batches * batch_size)
    return batched(numbers, element, batch_size)


def check_augmentation(
    scale: tuple[float, float],
    short_side: int | None,
    max_class_share: float,
) -> None:
    """Raises a ValueError for options that `training_pipeline` cannot follow."""
    if not 0 < scale[0] <= scale[1] <= LARGEST_SCALE:
        raise ValueError(
            "Expected scale (low, high), 0 < low <= high <= "
            f"{LARGEST_SCALE}, got {scale}."
        )
    if short_side is not None and not 1 <= short_side <= LARGEST_SIDE:
        raise ValueError(f"Expected short_side in 1..{LARGEST_SIDE}, got {short_side}.")
    if not 0 < max_class_share <= 1:
        raise ValueError(f"Expected max_class_share in 0..1, got {max_class_share}.")


def _loader(dataset: SegmentationDataset) -> Callable:
    """A graph function from index to the image's `Part` and the mask.

    Beyond the last one they are blank and ignored.
    """
    tf = required("tensorflow")
    blank = np.array(MEAN_COLOUR, np.uint8).reshape(1, 1, 3)
    ignored = np.full((1, 1), IGNORE_LABEL, np.uint8)

    @guarded
    def read(i):
        """The content of a JPEG, or else the pixels; and the mask."""
        if i >= len(dataset):
            return b"", blank, ignored
        image, mask = dataset.read(int(i), load_lazily)
        if isinstance(image, Jpeg):
            return image.content, blank, mask
        return b"", image, mask

    @guarded
    def decode(i, content, image, size, first, last):
        if content:
            jpeg = Jpeg(content, (*size, 3))
            return decode_part(jpeg, first, last, dataset.image_name(i))
        return image[first[0] : last[0], first[1] : last[1]]

    def load(i):
        content, image, mask = tf.numpy_function(
            read, [i], (tf.string, tf.uint8, tf.uint8), stateful=False
        )
        mask.set_shape((None, None))

        def part(first, last):
            pixels = tf.numpy_function(
                decode,
                [i, content, image, tf.shape(mask), first, last],
                tf.uint8,
                stateful=False,
            )
            return tf.ensure_shape(pixels, (None, None, 3))

        return part, mask

    return load
