"""Images with one class each: what a backbone is pre-trained on."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from keras_lrseg.data.files import IMAGE_SUFFIXES, load_image
from keras_lrseg.data.subsets import Picked, readable_indices

_HOW_TO_SORT = (
    "Every image must lie in the folder of its class, as in train/n01440764/x.JPEG. "
    "ImageNet's validation images come in one folder, with their classes in a list "
    "(ILSVRC2012_validation_ground_truth.txt): move each into the folder of its class."
)


@dataclass(frozen=True, eq=False)
class ClassificationDataset:
    """Images with a class each.

    `dataset[i]` gives `(image, label)`, uint8 RGB (H, W, 3) and an integer; sizes may
    differ. Files are read when asked for. Usually made by `from_folders`.

    Args:
        images: paths, `Record`s, or uint8 arrays (H, W, 3); a sequence may make them
            when asked.
        labels: integers 0..K-1, as many as images.
        classes: the K names, 2 or more.
        name: for tables and messages.

    Raises: ValueError where these do not fit together.
    """

    images: Sequence
    labels: Sequence[int]
    classes: tuple[str, ...]
    name: str

    def __post_init__(self):
        if len(self.images) != len(self.labels):
            raise ValueError(
                f"Expected as many labels as images, got {len(self.images)} images and "
                f"{len(self.labels)} labels."
            )
        if len(self.images) == 0:
            raise ValueError("Expected at least one image, got none.")
        if len(self.classes) < 2:
            raise ValueError(f"Expected 2 classes or more, got {len(self.classes)}.")
        if isinstance(self.labels, (np.ndarray, list, tuple)):  # others are made later
            low, high = np.min(self.labels), np.max(self.labels)
            if low < 0 or high >= len(self.classes):
                raise ValueError(
                    f"Expected labels 0..{len(self.classes) - 1}, got {low}..{high}."
                )

    @classmethod
    def from_folders(
        cls,
        root: str | Path,
        classes: Sequence[str] | None = None,
        *,
        name: str | None = None,
    ) -> ClassificationDataset:
        """Reads a folder of one folder a class, such as ImageNet's train/.

        Args:
            root: the folder; its own folders are named as the classes, and hold .jpg,
                .jpeg, .png or .bmp files.
            classes: the names of labels 0..K-1, where they must be those of another
                split: `train.classes`. By default the folders' names, sorted.
            name: by default the folder's.

        Only names are read here: `check` reads everything.

        Raises: FileNotFoundError; ValueError for images outside a class's folder, for
            a folder that is none of `classes`, and where there is no image at all.
        """
        root = Path(root)
        if not root.is_dir():
            raise FileNotFoundError(f"No such folder: {root}")
        entries = [e for e in os.scandir(root) if not e.name.startswith(".")]
        folders = sorted(entry.name for entry in entries if entry.is_dir())
        loose = sorted(
            e.name for e in entries if e.name.lower().endswith(IMAGE_SUFFIXES)
        )
        if loose:
            raise ValueError(
                f"{len(loose)} images of {root} are in no class's folder; the first: "
                f"{loose[0]}. {_HOW_TO_SORT}"
            )
        classes = tuple(folders if classes is None else classes)
        label_of = {folder: label for label, folder in enumerate(classes)}
        unknown = [folder for folder in folders if folder not in label_of]
        if unknown:
            raise ValueError(
                f"{len(unknown)} folders of {root} are none of the {len(classes)} "
                f"classes; the first: {unknown[0]}"
            )
        images, labels = [], []
        for folder in folders:
            paths = _image_paths(root / folder)
            images += paths
            labels += [label_of[folder]] * len(paths)
        if not images:
            raise ValueError(f"Found no image in the folders of {root}. {_HOW_TO_SORT}")
        return cls(images, np.array(labels, np.int32), classes, name or root.name)

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        """Reads one image. Raises: ValueError that names the file."""
        index = operator.index(index)
        image = self.images[index]
        if not isinstance(image, np.ndarray):
            image = load_image(image)
        return image, int(self.labels[index])

    def __iter__(self) -> Iterator[tuple[np.ndarray, int]]:
        return (self[i] for i in range(len(self)))

    def subset(self, indices: Sequence[int]) -> ClassificationDataset:
        """The images at `indices`, in that order; the classes stay."""
        return replace(
            self,
            images=Picked(self.images, indices),
            labels=Picked(self.labels, indices),
        )

    def without_corrupt(
        self, progress: Callable[[int, int], None] | None = None
    ) -> tuple[ClassificationDataset, list[str]]:
        """Reads every image and leaves out those that cannot be decoded.

        Args, returns, raises: as `SegmentationDataset.without_corrupt`.
        """
        readable, messages = readable_indices(self, progress)
        return self.subset(readable), messages

    def check(self, progress: Callable[[int, int], None] | None = None) -> np.ndarray:
        """Reads every image and counts those of each class.

        Args:
            progress: called as `progress(done, total)` after each image.

        Returns: int64 (K,). Raises: ValueError that names the first unreadable file.
        """
        counts = np.zeros(self.num_classes, np.int64)
        for done, (_, label) in enumerate(self, start=1):
            counts[label] += 1
            if progress:
                progress(done, len(self))
        return counts


def _image_paths(folder: Path) -> list[str]:
    """The visible images of a folder, sorted: strings, as there may be 14 million."""
    return sorted(
        entry.path
        for entry in os.scandir(folder)
        if entry.name.lower().endswith(IMAGE_SUFFIXES) and entry.name[0] != "."
    )
