"""Reading images and masks, writing pictures: the only code that touches files."""

from __future__ import annotations

import importlib
import io
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")
# Deep images: squeezing their 16 or 32 bits into 8 is the user's decision.
_DEEP_MODES = re.compile(r"[IF]|.*;16B")
# Pillow stretches the values of grey PNGs of 2 and 4 bits to 0..255, and keeps the
# high byte of colours of 16 bits.
_CHANGED = ("L;2", "L;4", "RGB;16B", "RGBA;16B", "LA;16B")


UNKNOWN_LABEL = 254
"""Marks the values of a label map that no mask may hold."""


class CorruptFile(ValueError):
    """A file that cannot be decoded; the message names it."""


def required(module: str) -> ModuleType:
    """Imports `module`, or raises an ImportError that says what to install."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"keras_lrseg.data needs `{module}`, which cannot be imported ({error}). "
            "Type: pip install keras-lrseg[data]"
        ) from error


class Record(io.BytesIO):
    """An encoded picture in memory, to be read like a file; `name` is for messages."""

    def __init__(self, content: bytes, name: str):
        super().__init__(content)
        self.name = name

    def __str__(self):
        return self.name


def load_image(path: str | Path | Record, upright: bool = False) -> np.ndarray:
    """Reads an image file (JPEG, PNG or BMP of 8 bits) as RGB.

    Grey images get three equal channels; an alpha channel is dropped.

    Args:
        upright: turn it as the camera's orientation tag says. Not for an image with a
            mask, which has no such tag.

    Returns: uint8 (H, W, 3). Raises: ValueError naming the file.
    """
    image = open_rgb(path)
    if upright:
        image = required("PIL.ImageOps").exif_transpose(image)
    return np.asarray(image)


def open_rgb(
    path: str | Path | Record, prepare: Callable[[Any], None] | None = None
) -> Any:
    """As `load_image`, but a Pillow image, mode RGB.

    Args:
        prepare: called with the opened image before its pixels are decoded.
    """
    image, mode = _decode(path, "image", prepare)
    if _DEEP_MODES.match(mode):
        raise ValueError(
            f"Expected an image of 8 bits a channel, got mode {mode}: {path}. "
            "Convert it to 8-bit RGB."
        )
    return image.convert("RGB")


def load_mask(path: str | Path | Record) -> np.ndarray:
    """Reads a PNG of train ids: 8-bit grey (mode L) or palette indices (mode P).

    Returns: uint8 (H, W). Raises: ValueError naming the file.
    """
    mask, mode = _decode(path, "mask")
    if mode not in ("L", "P"):
        raise ValueError(
            "Expected a mask of train ids (8-bit PNG, mode L or P, 255 = ignored), "
            f"got mode {mode}: {path}. Convert its colours or values to train ids; "
            "keras_lrseg.data.save_mask(path, labels, palette) writes such a file."
        )
    return np.asarray(mask)


def _decode(
    path: str | Path | Record,
    what: str,
    prepare: Callable[[Any], None] | None = None,
) -> tuple[Any, str]:
    """The decoded Pillow image, and its mode as it is in the file."""
    with opened(path, what) as image:
        raw_mode = image.tile[0].args if image.tile else None
        if prepare:
            prepare(image)
        image.load()
    return image, raw_mode if raw_mode in _CHANGED else image.mode


@contextmanager
def opened(path: str | Path | Record, what: str) -> Iterator[Any]:
    """A Pillow image of which the header is read.

    Args:
        what: "image" or "mask", for messages.

    Raises: ValueError naming the file, also for what goes wrong with it inside.
    """
    pillow = required("PIL.Image")
    try:
        with pillow.open(path) as image:
            yield image
    except pillow.DecompressionBombError as error:  # it is not corrupt
        raise ValueError(
            f"Cannot read the {what} {path}: {error} Cut it into parts, or raise "
            "PIL.Image.MAX_IMAGE_PIXELS if you trust it."
        ) from error
    # Decoders of corrupt files raise OSError, SyntaxError, EOFError, ValueError, ...
    except Exception as error:
        reason = getattr(error, "strerror", None) or error
        raise CorruptFile(f"Cannot read the {what} {path}: {reason}") from error


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Gives a temporary path beside `path` that takes its place when all went well.

    For a file, or a folder that does not exist yet. The folder that it lies in is made
    if it is missing. Example:

        with atomic_path("report.csv") as temporary:
            temporary.write_text(text)
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        temporary.unlink(missing_ok=True)


def save_image(path: str | Path, image: np.ndarray) -> None:
    """Writes a uint8 (H, W, 3) picture; the suffix of `path` chooses the format."""
    pillow = required("PIL.Image")
    with atomic_path(path) as temporary:
        pillow.fromarray(image).save(temporary)


def save_mask(path: str | Path, labels: np.ndarray, palette: np.ndarray) -> None:
    """Writes train ids as a PNG that picture viewers show in colour.

    Args:
        path: ends with `.png`.
        labels: integers (H, W), 0..K-1, or 255 for ignored (shown black).
        palette: uint8 (K, 3), RGB.

    `load_mask` gives the same labels back. Raises: ValueError.
    """
    if Path(path).suffix.lower() != ".png":
        raise ValueError(f"Labels are kept without loss in a .png only, got: {path}")
    check_labels(labels, len(palette))
    pillow = required("PIL.Image")
    # All 256 colours, or Pillow would write fewer bits a pixel and lose the 255s.
    colours = np.zeros((256, 3), np.uint8)
    colours[: len(palette)] = palette
    picture = pillow.fromarray(labels.astype(np.uint8))
    picture.putpalette(colours.tobytes())
    with atomic_path(path) as temporary:
        picture.save(temporary, optimize=True)


def check_labels(labels: np.ndarray, num_classes: int, name: str = "labels") -> None:
    """Raises a ValueError if `labels` holds anything but 0..num_classes-1 and 255.

    Args:
        labels: integers (H, W).
        num_classes: 2..255.
        name: what the message calls them, such as a file's path.
    """
    if labels.ndim != 2 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"Expected integer labels of shape (H, W), got {labels.dtype} "
            f"{labels.shape}: {name}"
        )
    wrong = (labels != 255) & ((labels < 0) | (labels >= num_classes))
    if wrong.any():
        values = np.unique(labels[wrong])
        shown = ", ".join(map(str, values[:5])) + (", ..." if len(values) > 5 else "")
        raise ValueError(
            f"Expected train ids 0..{num_classes - 1} or 255 (ignored), "
            f"got {shown}: {name}"
        )


def map_labels(mask: np.ndarray, label_map: np.ndarray, name: str) -> np.ndarray:
    """Turns a mask's own values into train ids.

    Args:
        mask: uint8 (H, W), as in the file.
        label_map: uint8 (256,), as `SegmentationDataset` says.
        name: what the message calls the mask.

    Returns: uint8 (H, W). Raises: ValueError for a value that the map does not know.
    """
    labels = np.take(label_map, mask)
    wrong = labels == UNKNOWN_LABEL
    if wrong.any():
        known, values = (
            np.flatnonzero(label_map != UNKNOWN_LABEL),
            np.unique(mask[wrong]),
        )
        raise ValueError(
            f"Expected a mask of values {_ranges(known)}, got {_ranges(values)}: {name}"
        )
    return labels


def _ranges(values: np.ndarray) -> str:
    """Sorted integers as "0..33, 255"."""
    runs = np.split(values, np.flatnonzero(np.diff(values) > 1) + 1)
    return ", ".join(
        str(run[0]) if len(run) == 1 else f"{run[0]}..{run[-1]}" for run in runs
    )
