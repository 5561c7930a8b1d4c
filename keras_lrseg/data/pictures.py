"""Labels as colours: palettes, label pictures and overlays."""

from __future__ import annotations

import colorsys

import numpy as np

from keras_lrseg.data.files import check_labels

GOLDEN_RATIO = 0.618034


def default_palette(num_classes: int) -> np.ndarray:
    """Distinct colours, the same ones on every call; none is black.

    Successive hues are a golden section of the circle apart, which keeps any first K
    of them spread out; brightness and saturation alternate to part near hues.

    Args:
        num_classes: K, 1..255.

    Returns: uint8 (K, 3), RGB.
    """
    colours = [
        colorsys.hsv_to_rgb(
            (i * GOLDEN_RATIO) % 1.0,
            (0.85, 0.55, 0.70)[i % 3],
            (0.95, 0.75, 0.55, 0.85)[i % 4],
        )
        for i in range(num_classes)
    ]
    return np.round(255 * np.array(colours)).astype(np.uint8).reshape(-1, 3)


def colour_labels(labels: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Paints train ids in their classes' colours, ignored pixels (255) black.

    Args:
        labels: integers (H, W), 0..K-1 or 255.
        palette: uint8 (K, 3), RGB.

    Returns: uint8 (H, W, 3). Raises: ValueError for a label without a colour.
    """
    check_labels(labels, len(palette))
    table = np.zeros((256, 3), np.uint8)
    table[: len(palette)] = palette
    return table[labels]


def overlay(
    image: np.ndarray, labels: np.ndarray, palette: np.ndarray, opacity: float = 0.5
) -> np.ndarray:
    """Lays the classes' colours over the image; ignored pixels show the image alone.

    Args:
        image: uint8 (H, W, 3), RGB.
        labels: integers (H, W), 0..K-1 or 255.
        palette: uint8 (K, 3), RGB.
        opacity: of the colours, 0..1.

    Returns: uint8 (H, W, 3). Raises: ValueError.
    """
    if image.dtype != np.uint8 or image.shape != (*labels.shape, 3):
        raise ValueError(
            f"Expected a uint8 image of shape {(*labels.shape, 3)} for labels of "
            f"shape {labels.shape}, got {image.dtype} {image.shape}."
        )
    if not 0 <= opacity <= 1:
        raise ValueError(f"Expected an opacity in 0..1, got {opacity}.")
    colours = colour_labels(labels, palette)
    mixed = np.rint((1 - opacity) * image + opacity * colours).astype(np.uint8)
    return np.where((labels == 255)[..., None], image, mixed)
