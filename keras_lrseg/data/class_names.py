"""Class names and their colours, from lists, text files or the masks themselves."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from keras_lrseg.data.pictures import default_palette

Classes = Sequence[str] | str | Path | None


def resolve_classes(
    classes: Classes, masks: Iterable[np.ndarray]
) -> tuple[tuple[str, ...], np.ndarray]:
    """Class names and palette from what the user gave; `masks` serve None only."""
    if isinstance(classes, str | Path):
        return read_classes(Path(classes))
    if classes is None:
        largest = [np.max(m, where=m != 255, initial=0) for m in masks]
        count = int(max(largest, default=0)) + 1
        if count == 1:
            raise ValueError(
                "The masks hold no label but 0, and 255, which is ignored. Write the "
                "pixels of the second class as 1, or name the classes (--classes)."
            )
        classes = [f"class {i}" for i in range(count)]
    return tuple(classes), default_palette(len(classes))


def read_classes(path: str | Path) -> tuple[tuple[str, ...], np.ndarray]:
    """Parses lines such as "traffic light #ffaa00"; empty lines are skipped.

    Returns: the K names, and their palette uint8 (K, 3).
    Raises: FileNotFoundError, ValueError with the bad line.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No such file of class names: {path}")
    try:
        text = path.read_text(encoding="utf-8-sig")  # editors may begin with a mark
    except UnicodeDecodeError as error:
        raise ValueError(f"Expected class names in UTF-8: {path} ({error})") from None
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    palette = default_palette(len(lines))
    names = []
    for i, line in enumerate(lines):
        match = re.fullmatch(r"([^#]*[^#\s])(?:\s+#([0-9a-fA-F]{6}))?", line)
        if not match:
            raise ValueError(
                f'Expected "name" or "name #rrggbb", got {line!r} in {path}'
            )
        names.append(match[1])
        if match[2]:
            palette[i] = tuple(bytes.fromhex(match[2]))
    return tuple(names), palette
