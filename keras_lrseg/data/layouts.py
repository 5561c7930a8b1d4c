"""How a data set's folders are laid out, and what of it is there."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np


class WrongLayout(FileNotFoundError):
    """Nothing of a data set is where it should be; the message has a line a place."""


@dataclass(frozen=True)
class Layout:
    """Where files lie below the root; `{split}` stands for the split's folder.

    An image and its mask have the same path below their folders up to the suffixes.

    Args:
        images: folder of the images, with any folders in it.
        image_suffixes: how the images' names end.
        masks: folder of the masks.
        mask_suffix: how the masks' names end.
        label_map: as in `SegmentationDataset`.
        listing: text file with the images' names without suffix, one a line, where a
            folder holds more than the split.
    """

    images: str
    image_suffixes: tuple[str, ...]
    masks: str
    mask_suffix: str
    label_map: np.ndarray | None = None
    listing: str | None = None


class Files:
    """The images and masks of one split in one layout.

    Args:
        layout: where to look.
        root: the data set's folder.
        folder: the split's own name.
    """

    def __init__(self, layout: Layout, root: Path, folder: str):
        self.layout, self.root, self.folder = layout, root, folder
        self.images = _files(self._path(layout.images), layout.image_suffixes)
        self.masks = _files(self._path(layout.masks), (layout.mask_suffix,))
        self.listing = layout.listing and self._path(layout.listing)
        self.found, self.not_there = len(self.images), []
        if self.listing:
            names = _names_in(self.listing) if self.listing.is_file() else []
            self.not_there = [name for name in names if name not in self.images]
            self.images = {n: self.images[n] for n in names if n in self.images}
        self.unpaired = [key for key in self.images if key not in self.masks]

    @property
    def share_unpaired(self) -> float:
        """Of the images; 1 where there are none."""
        return len(self.unpaired) / len(self.images) if self.images else 1.0

    def check(self) -> None:
        """Raises a ValueError that names the first file that is missing."""
        if self.not_there:
            raise ValueError(
                f"{len(self.not_there)} of the images that {self.listing} names are "
                f"not in {self._path(self.layout.images)}; the first: "
                f"{self.not_there[0]}"
            )
        if self.unpaired:
            key = self.unpaired[0]
            mask = self._path(self.layout.masks) / (key + self.layout.mask_suffix)
            raise ValueError(
                f"{len(self.unpaired)} of {len(self.images)} images have no mask; the "
                f"first: {self.images[key]} needs {mask}"
            )

    def describe(self) -> Iterable[str]:
        """Lines that say where files should lie, and how many are there."""
        layout = self.layout
        image = layout.images + "/*" + " or *".join(layout.image_suffixes)
        yield self._line(image, self.found)
        yield self._line(layout.masks + "/*" + layout.mask_suffix, len(self.masks))
        if layout.listing:
            yield self._line(layout.listing, int(self.listing.is_file()))

    def _line(self, pattern: str, number: int) -> str:
        found = f"{number} found" if number else "MISSING"
        return f"  {pattern.format(split=self.folder):55s} {found}"

    def _path(self, pattern: str) -> Path:
        return self.root / pattern.format(split=self.folder)


def expectation(name: str, page: str, tries: list[Files]) -> str:
    """The message for a folder in which nothing fits any of the layouts."""
    root = tries[0].root
    entries = sorted(path.name for path in root.iterdir())
    shown = ", ".join(entries[:8]) + (", ..." if len(entries) > 8 else "")
    lines = [f"Found no images with masks of {name} in {root}. Expected there:"]
    for i, files in enumerate(tries):
        lines += ["or"] * (i > 0)
        lines += files.describe()
    lines.append(f"It holds: {shown or 'nothing'}. Downloads and terms: {page}")
    return "\n".join(lines)


def _names_in(listing: Path) -> list[str]:
    try:
        return listing.read_text(encoding="utf-8").split()
    except UnicodeDecodeError as error:
        raise ValueError(f"Expected names in UTF-8: {listing} ({error})") from None


def _files(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """The visible files below a folder, by path without suffix, sorted."""
    found: dict[str, Path] = {}
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        inside = Path(parent).relative_to(folder).as_posix() + "/"  # "./" at the top
        for name in names:
            ending = name.lower()
            suffix = next((s for s in suffixes if ending.endswith(s.lower())), None)
            if suffix is None or name.startswith("."):
                continue
            path = Path(parent, name)
            key = inside.removeprefix("./") + name[: -len(suffix)]
            if key in found:
                raise ValueError(
                    f"Two images of one name: {found[key]} and {path}. Remove one."
                )
            found[key] = path
    return dict(sorted(found.items()))
