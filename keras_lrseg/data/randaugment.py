"""RandAugment (Cubuk et al. 2020, arXiv:1909.13719) on Pillow images.

Two of fifteen operations are drawn, each is applied with probability 0.5, and its
magnitude is drawn around the given one with a spread of 0.5; all become stronger with
the magnitude: "rand-m9-mstd0.5-inc1" of the recipes for DeiT, Swin and ConvNeXt.

Keras's RandAugment layer draws from a seed generator that counts its calls: within a
stream of parallel threads its numbers depend on who comes first. These functions are
pure functions of the image and of a generator made for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from keras_lrseg.data.augment import MEAN_COLOUR
from keras_lrseg.data.files import required

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

NUM_OPERATIONS, PROBABILITY, SPREAD, LARGEST = 2, 0.5, 0.5, 10.0


def rand_augment(image: Image, magnitude: float, rng: np.random.Generator) -> Image:
    """Applies up to two random operations.

    Args:
        image: RGB.
        magnitude: 0..10.
        rng: the only source of randomness.
    """
    names = list(OPERATIONS)
    for _ in range(NUM_OPERATIONS):
        name = names[rng.integers(len(names))]
        strength = min(max(rng.normal(magnitude, SPREAD), 0.0), LARGEST) / LARGEST
        sign = rng.choice((-1.0, 1.0))
        if rng.random() < PROBABILITY:
            image = OPERATIONS[name](image, strength, sign)
    return image


def _whole(function: str) -> Callable:
    """An operation without magnitude."""

    def apply(image, _strength, _sign):
        return getattr(required("PIL.ImageOps"), function)(image)

    return apply


def _enhance(kind: str) -> Callable:
    """Towards or away from grey, black, the mean or blur, by a factor of 0.1..1.9."""

    def apply(image, strength, sign):
        factor = max(1.0 + 0.9 * strength * sign, 0.1)
        return getattr(required("PIL.ImageEnhance"), kind)(image).enhance(factor)

    return apply


def _posterize(image: Image, strength: float, _sign: float) -> Image:
    bits = max(4 - int(4 * strength), 1)
    return required("PIL.ImageOps").posterize(image, bits)


def _solarize(image: Image, strength: float, _sign: float) -> Image:
    return required("PIL.ImageOps").solarize(image, 256 - int(256 * strength))


def _solarize_add(image: Image, strength: float, _sign: float) -> Image:
    """Adds to the dark half of the values."""
    amount = int(110 * strength)
    table = [min(v + amount, 255) if v < 128 else v for v in range(256)]
    return image.point(table * 3)


def _rotate(image: Image, strength: float, sign: float) -> Image:
    pillow = required("PIL.Image")
    return image.rotate(
        30 * strength * sign, pillow.Resampling.BILINEAR, fillcolor=MEAN_COLOUR
    )


def _affine(horizontal: bool, shear: float = 0.0, shift: float = 0.0) -> Callable:
    """Shear, or shift by a share of the side, at most."""

    def apply(image, strength, sign):
        pillow = required("PIL.Image")
        amount = strength * sign
        side = image.size[0 if horizontal else 1]
        row = (shear * amount, shift * amount * side)
        if horizontal:
            matrix = (1.0, row[0], row[1], 0.0, 1.0, 0.0)
        else:
            matrix = (1.0, 0.0, 0.0, row[0], 1.0, row[1])
        return image.transform(
            image.size,
            pillow.Transform.AFFINE,
            matrix,
            pillow.Resampling.BILINEAR,
            fillcolor=MEAN_COLOUR,
        )

    return apply


OPERATIONS: dict[str, Callable[[Image, float, float], Image]] = {
    "autocontrast": _whole("autocontrast"),
    "equalize": _whole("equalize"),
    "invert": _whole("invert"),
    "posterize": _posterize,
    "solarize": _solarize,
    "solarize_add": _solarize_add,
    "colour": _enhance("Color"),
    "contrast": _enhance("Contrast"),
    "brightness": _enhance("Brightness"),
    "sharpness": _enhance("Sharpness"),
    "rotate": _rotate,
    "shear_x": _affine(True, shear=0.3),
    "shear_y": _affine(False, shear=0.3),
    "translate_x": _affine(True, shift=0.45),
    "translate_y": _affine(False, shift=0.45),
}
"""By name: of the image, the strength in 0..1, and a sign for those that have two."""
