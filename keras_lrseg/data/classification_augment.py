"""Crops, erasing and mixing for image classification, in NumPy and Pillow.

Every function is a pure function of its arguments; a `numpy.random.Generator` made for
one element is the only source of randomness.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keras_lrseg.data.augment import MEAN_COLOUR
from keras_lrseg.data.files import Record, open_rgb, required
from keras_lrseg.data.randaugment import rand_augment

if TYPE_CHECKING:
    from PIL.Image import Image

ASPECTS = (3 / 4, 4 / 3)
CENTRE = 0.875  # 224 of 256
COLOUR_SPREAD = (58, 57, 57)  # ImageNet's standard deviation

Box = tuple[float, float, float, float]
"""Left, top, right and bottom, in pixels."""


def augment_one(
    image: str | Path | Record | np.ndarray,
    size: tuple[int, int],
    rng: np.random.Generator,
    *,
    scale: tuple[float, float],
    magnitude: float,
    erasing: float,
) -> np.ndarray:
    """Reads, crops, flips, changes and erases one image.

    Args:
        image: a file, or uint8 (H, W, 3).
        size: (height, width) of the result.
        rng: the only source of randomness.
        scale, magnitude, erasing: as `classification_pipeline` says.

    Returns: uint8 (*size, 3). Raises: CorruptFile with the file's name.
    """
    picture = read_box(image, size, lambda whole: random_box(whole, scale, rng))
    if rng.random() < 0.5:
        picture = required("PIL.ImageOps").mirror(picture)
    if magnitude:
        picture = rand_augment(picture, magnitude, rng)
    result = np.array(picture)
    if rng.random() < erasing:
        erase(result, rng)
    return result


def random_box(
    size: tuple[int, int], scale: tuple[float, float], rng: np.random.Generator
) -> Box:
    """A random part of an image, of an aspect of 3/4 to 4/3.

    Args:
        size: (width, height) of the image.
        scale: range of the part's share of the image's area, drawn uniformly; the
            logarithm of the aspect is uniform.

    Returns: the first of ten draws that fits into the image; else the largest centred
        part of an allowed aspect.
    """
    width, height = size
    for _ in range(10):
        area = width * height * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(*map(math.log, ASPECTS)))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, top = rng.integers(width - w + 1), rng.integers(height - h + 1)
            return (left, top, left + w, top + h)
    aspect = min(max(width / height, ASPECTS[0]), ASPECTS[1])
    return centred_box(size, aspect, 1.0)


def centred_box(size: tuple[int, int], aspect: float, share: float) -> Box:
    """The middle of an image: `share` of the largest part of an aspect.

    Args:
        size: (width, height) of the image.
        aspect: width / height of the part.
        share: of the part's sides.
    """
    width, height = size
    w = share * min(width, height * aspect)
    h = share * min(height, width / aspect)  # not w / aspect, which may round up
    left, top = (width - w) / 2, (height - h) / 2
    return (left, top, left + w, top + h)


def read_box(
    image: str | Path | Record | np.ndarray,
    size: tuple[int, int],
    choose_box: Callable[[tuple[int, int]], Box],
) -> Image:
    """Decodes an image and gives a part of it resized, bicubic with antialias.

    The part of the resized image, to be exact: its edges know their neighbours. Only
    the part is resampled; a JPEG is decoded at a half, a quarter or an eighth of
    its size where that still has more pixels than are asked for.

    Args:
        image: a file, or uint8 (H, W, 3).
        size: (height, width) of the result.
        choose_box: called with the image's (width, height), gives the part.

    Returns: a Pillow image, RGB. Raises: CorruptFile with the file's name.
    """
    pillow = required("PIL.Image")
    height, width = size
    box = whole = None

    def prepare(opened):
        nonlocal box, whole
        box, whole = choose_box(opened.size), opened.size
        enlarge = max(width / (box[2] - box[0]), height / (box[3] - box[1]))
        opened.draft("RGB", tuple(math.ceil(side * enlarge) for side in whole))

    if isinstance(image, np.ndarray):
        picture = pillow.fromarray(image)
        box, whole = choose_box(picture.size), picture.size
    else:
        picture = open_rgb(image, prepare)
    across, down = (new / old for new, old in zip(picture.size, whole, strict=True))
    box = (box[0] * across, box[1] * down, box[2] * across, box[3] * down)
    return picture.resize((width, height), pillow.Resampling.BICUBIC, box)


def erase(image: np.ndarray, rng: np.random.Generator) -> None:
    """Overwrites a random rectangle by noise (random erasing, arXiv:1708.04896).

    A rectangle of 2 to 33 % of the area and an aspect of 0.3 to 3.3; the noise has
    ImageNet's mean and spread, cut to 0..255.

    Args:
        image: uint8 (h, w, 3), changed in place.
    """
    height, width, _ = image.shape
    for _ in range(10):
        area = height * width * rng.uniform(0.02, 1 / 3)
        aspect = math.exp(rng.uniform(math.log(0.3), math.log(1 / 0.3)))
        h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if h < height and w < width:
            top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
            noise = rng.standard_normal((h, w, 3), np.float32)
            noise = noise * np.float32(COLOUR_SPREAD) + np.float32(MEAN_COLOUR)
            image[top : top + h, left : left + w] = noise.clip(0, 255)
            return


def mix(
    images: np.ndarray, mixup: float, cutmix: float, rng: np.random.Generator
) -> tuple[np.ndarray, float]:
    """Mixes two images with each other (arXiv:1710.09412, 1905.04899).

    MixUp blends them, CutMix exchanges a rectangle; where both are on, each with
    probability 0.5.

    Args:
        images: uint8 (2, h, w, 3).
        mixup: parameter of the Beta distribution, 0 = off.
        cutmix: likewise.

    Returns: uint8 (2, h, w, 3), and the share of each result that is its own image,
        0..1; the rest is the other's.
    """
    if mixup and cutmix:
        mixup, cutmix = (mixup, 0.0) if rng.random() < 0.5 else (0.0, cutmix)
    if mixup:
        share = rng.beta(mixup, mixup)
        own = images.astype(np.float32)
        mixed = share * own + (1 - share) * own[::-1]
        return (mixed + 0.5).astype(np.uint8), share
    if cutmix:
        rows, columns = random_cut(images.shape[1:3], rng.beta(cutmix, cutmix), rng)
        mixed = images.copy()
        mixed[:, rows, columns] = images[::-1, rows, columns]
        cut = mixed[0, rows, columns, 0].size
        return mixed, 1 - cut / mixed[0, ..., 0].size
    return images, 1.0


def random_cut(
    size: tuple[int, int], share: float, rng: np.random.Generator
) -> tuple[slice, slice]:
    """Rows and columns of a rectangle of 1 - share of the area around a random point.

    What lies outside the image is cut off, so that it may be smaller.
    """
    side = math.sqrt(1 - share)
    cut = []
    for length in size:
        centre, half = rng.integers(length), int(length * side) // 2
        cut.append(slice(max(centre - half, 0), min(centre + half, length)))
    return tuple(cut)


def soft_labels(
    labels: np.ndarray, share: float, num_classes: int, smoothing: float
) -> np.ndarray:
    """The target probabilities of two images that were mixed with each other.

    Args:
        labels: integers (2,).
        share: as from `mix`.
        num_classes: K.
        smoothing: spread evenly over all classes, 0..1.

    Returns: float32 (2, K), each row's sum 1.
    """
    targets = np.full((2, num_classes), smoothing / num_classes, np.float32)
    for row in (0, 1):
        targets[row, labels[row]] += share * (1 - smoothing)
        targets[row, labels[1 - row]] += (1 - share) * (1 - smoothing)
    return targets
