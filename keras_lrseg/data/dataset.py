"""Paired images and masks with their classes: what every other module is given."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import numpy as np

from keras_lrseg.data.class_names import Classes, resolve_classes
from keras_lrseg.data.files import (
    IMAGE_SUFFIXES,
    UNKNOWN_LABEL,
    CorruptFile,
    Record,
    check_labels,
    load_image,
    load_mask,
    map_labels,
)
from keras_lrseg.data.subsets import Picked, readable_indices

IGNORE_LABEL = 255


@dataclass(frozen=True, eq=False)
class SegmentationDataset:
    """Images with a class for every pixel.

    `dataset[i]` gives `(image, mask)`, uint8 RGB (H, W, 3) and uint8 train ids (H, W),
    where 255 means ignored; sizes may differ from pair to pair. Files are read when
    asked for, with Pillow alone, so that evaluation runs without TensorFlow. Usually
    made by `from_folders`, `from_arrays` or `load_demo`. A subclass that reads pairs
    otherwise overrides `read`.

    Args:
        images: paths, `Record`s, or uint8 arrays (H, W, 3); a sequence may make them
            when asked.
        masks: paths, `Record`s, or uint8 arrays (H, W), as many as images.
        classes: the names of train ids 0..K-1, K in 2..255.
        palette: uint8 (K, 3), RGB; colours may repeat.
        name: for tables and messages.
        label_map: where masks hold other values than train ids: uint8 (256,), the train
            id of each value, 255 where it is ignored, `UNKNOWN_LABEL` where no mask may
            hold it. None: the values are train ids, or 255.

    Raises: ValueError where these do not fit together.
    """

    images: Sequence[Path | Record | np.ndarray]
    masks: Sequence[Path | Record | np.ndarray]
    classes: tuple[str, ...]
    palette: np.ndarray
    name: str
    label_map: np.ndarray | None = None

    def __post_init__(self):
        if len(self.images) != len(self.masks):
            raise ValueError(
                f"Expected as many masks as images, got {len(self.images)} images and "
                f"{len(self.masks)} masks."
            )
        if len(self.images) == 0:
            raise ValueError("Expected at least one image, got none.")
        if not 2 <= len(self.classes) <= 255:
            raise ValueError(f"Expected 2 to 255 classes, got {len(self.classes)}.")
        twice = [name for name, n in Counter(self.classes).items() if n > 1]
        if twice:
            raise ValueError(f"Class names must differ, got twice: {twice[0]!r}.")
        if self.palette.shape != (len(self.classes), 3):
            raise ValueError(
                f"Expected a palette of shape {(len(self.classes), 3)}, "
                f"got {self.palette.shape}."
            )
        if self.label_map is not None:
            _check_label_map(self.label_map, len(self.classes))

    @classmethod
    def from_folders(
        cls,
        images: str | Path,
        masks: str | Path,
        classes: Classes = None,
        *,
        name: str | None = None,
    ) -> SegmentationDataset:
        """Pairs the images of one folder with the masks of another by file stem.

        Args:
            images: folder of .jpg, .jpeg, .png or .bmp files, 8 bits a channel.
            masks: folder of .png files that hold train ids as grey values (mode L) or
                palette indices (mode P), 255 = ignored. Masks without an image are
                left out.
            classes: the class names; or the path of a text file with one class a line,
                optionally with a colour ("traffic light #ffaa00"); or None: all masks
                are read to find the largest label, and names are "class 0", ...
            name: by default the image folder's.

        The pairs are sorted by stem. Only the first mask is read here: `check` reads
        everything. Corrupt masks are passed over until then.

        Raises: ValueError, FileNotFoundError.
        """
        images, masks = Path(images), Path(masks)
        image_of = _files_by_stem(images, IMAGE_SUFFIXES)
        mask_of = _files_by_stem(masks, (".png",))
        missing = [stem for stem in image_of if stem not in mask_of]
        if missing:
            raise ValueError(
                f"{len(missing)} of {len(image_of)} images have no mask; the first: "
                f"{image_of[missing[0]]} needs {masks / missing[0]}.png"
            )
        mask_paths = [mask_of[stem] for stem in image_of]
        next(_readable_masks(mask_paths))
        names, palette = resolve_classes(classes, _readable_masks(mask_paths))
        return cls(
            list(image_of.values()), mask_paths, names, palette, name or images.name
        )

    @classmethod
    def from_arrays(
        cls,
        images: Sequence[np.ndarray],
        masks: Sequence[np.ndarray],
        classes: Classes = None,
        *,
        name: str = "arrays",
    ) -> SegmentationDataset:
        """Pairs arrays held in memory; they are not copied.

        Args:
            images: uint8 (N, H, W, 3), or a list of uint8 (H, W, 3) of any sizes, RGB.
            masks: uint8 (N, H, W), or a list of uint8 (H, W): train ids, 255 = ignored.
            classes: as in `from_folders`.
            name: for tables and messages.

        Raises: ValueError.
        """
        for i, (image, mask) in enumerate(zip(images, masks, strict=False)):
            _check_array(image, "(H, W, 3)", f"image {i}")
            _check_array(mask, "(H, W)", f"mask {i}")
        names, palette = resolve_classes(classes, masks)
        return cls(images, masks, names, palette, name)

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Reads and checks one pair. Raises: ValueError that names the file."""
        return self.read(index)

    def read(
        self, index: int, load: Callable[[Path | Record], Any] = load_image
    ) -> tuple[Any, np.ndarray]:
        """As `dataset[index]`, the image of a file as `load` gives it.

        Args:
            load: gives anything with the image's `shape`.
        """
        index = operator.index(index)
        image, mask = self.images[index], self.masks[index]
        image_name, mask_name = _name_of(image, index), f"mask {index}"
        if not isinstance(image, np.ndarray):
            image = load(image)
        if not isinstance(mask, np.ndarray):
            mask, mask_name = load_mask(mask), str(mask)
        if image.shape[:2] != mask.shape:
            turned = image.shape[:2] == mask.shape[::-1]
            raise ValueError(
                f"Expected a mask of the image's size {image.shape[:2]}, got "
                f"{mask.shape}: {image_name} and {mask_name}"
                + ". A photo's orientation tag is not followed here: save it upright."
                * turned
            )
        if self.label_map is None:
            check_labels(mask, self.num_classes, mask_name)
        else:
            mask = map_labels(mask, self.label_map, mask_name)
        return image, mask

    def image_name(self, index: int) -> str:
        """The file of an image, or "image 3" of an array."""
        return _name_of(self.images[index], index)

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return (self[i] for i in range(len(self)))

    def subset(self, indices: Sequence[int]) -> SegmentationDataset:
        """The pairs at `indices`, in that order; classes and colours stay."""
        return replace(
            self,
            images=Picked(self.images, indices),
            masks=Picked(self.masks, indices),
        )

    def without_corrupt(
        self, progress: Callable[[int, int], None] | None = None
    ) -> tuple[SegmentationDataset, list[str]]:
        """Reads every pair and leaves out those with a file that cannot be decoded.

        Nothing else skips a file: a training that meets a corrupt one stops with its
        name. Wrong labels and sizes are mistakes of the data set as a whole, and raise
        here too.

        Args:
            progress: called as `progress(done, total)` after each pair.

        Returns: the readable pairs as a dataset, and one message for each pair left
            out, with the file's name.
        Raises: ValueError as `check`, or when no pair can be read.
        """
        readable, messages = readable_indices(self, progress)
        return self.subset(readable), messages

    def check(self, progress: Callable[[int, int], None] | None = None) -> np.ndarray:
        """Reads every pair and counts the pixels of each class.

        Args:
            progress: called as `progress(done, total)` after each pair.

        Returns: int64 (K,).
        Raises: ValueError naming the first file that is unreadable, truncated, of a
            size that differs from its partner's, or holds a label outside the classes.
        """
        counts = np.zeros(256, np.int64)

        def count(i):
            return np.bincount(self[i][1].reshape(-1), minlength=256)

        with ThreadPool() as pool:
            results = pool.imap(count, range(len(self)))
            for done, result in enumerate(results, start=1):
                counts += result
                if progress:
                    progress(done, len(self))
        return counts[: self.num_classes]


def load_demo(split: str) -> SegmentationDataset:
    """The land cover data that ships with the package.

    Tiles of 256x256 of NASA's Blue Marble with Köppen-Geiger climate zones, merged to
    water, vegetated, arid, tundra and ice, as labels. `demo/ATTRIBUTION.md` names the
    sources and says what such labels are worth.

    Args:
        split: "train" (91 tiles) or "validation" (33 tiles).
    """
    if split not in ("train", "validation"):
        raise ValueError(f'Expected split "train" or "validation", got {split!r}.')
    demo = Path(__file__).with_name("demo")
    return SegmentationDataset.from_folders(
        demo / split / "images",
        demo / split / "masks",
        demo / "classes.txt",
        name=f"demo/{split}",
    )


def load_images(folder: str | Path, count: int | None = None) -> list[np.ndarray]:
    """Reads the images of a folder, sorted by stem.

    Args:
        folder: of .jpg, .jpeg, .png or .bmp files, 8 bits a channel.
        count: how many, spread evenly over all; None for all.

    Returns: uint8 RGB (H, W, 3) each, turned as the camera's orientation tags say.
    Raises: ValueError, FileNotFoundError.
    """
    paths = list(_files_by_stem(Path(folder), IMAGE_SUFFIXES).values())
    count = len(paths) if count is None else min(count, len(paths))
    picked = (paths[i * len(paths) // count] for i in range(count))
    return [load_image(path, upright=True) for path in picked]


def _name_of(image, index):
    return f"image {index}" if isinstance(image, np.ndarray) else str(image)


def _files_by_stem(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """The folder's visible files with these suffixes, sorted by stem."""
    if not folder.is_dir():
        raise FileNotFoundError(f"No such folder: {folder}")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir(), key=lambda path: (path.stem, path.name)):
        if path.suffix.lower() not in suffixes or path.name.startswith("."):
            continue
        if path.stem in found:
            raise ValueError(
                f"Two files of one stem: {found[path.stem]} and {path}. "
                "Rename or remove one."
            )
        found[path.stem] = path
    if not found:
        raise ValueError(f"Found no file of {', '.join(suffixes)} in {folder}")
    return found


def _readable_masks(paths: list[Path]) -> Iterator[np.ndarray]:
    """The masks that can be decoded; if none can, the first one's error."""
    first_error, found = None, False
    for path in paths:
        try:
            mask = load_mask(path)
        except CorruptFile as error:
            first_error = first_error or error
        else:
            found = True
            yield mask
    if not found:
        raise first_error


def _check_array(array: np.ndarray, shape: str, name: str) -> None:
    rank_fits = array.ndim == shape.count(",") + 1
    channels_fit = not shape.endswith("3)") or array.shape[-1:] == (3,)
    if array.dtype != np.uint8 or not (rank_fits and channels_fit):
        raise ValueError(
            f"Expected a uint8 array of shape {shape}, got {array.dtype} "
            f"{array.shape}: {name}"
        )


def _check_label_map(label_map: np.ndarray, num_classes: int) -> None:
    fits = label_map.dtype == np.uint8 and label_map.shape == (256,)
    if not (fits and num_classes <= UNKNOWN_LABEL):
        raise ValueError(
            f"Expected a label_map uint8 (256,) for up to {UNKNOWN_LABEL} classes, got "
            f"{label_map.dtype} {label_map.shape} for {num_classes} classes."
        )
    ids = label_map[label_map != UNKNOWN_LABEL][None]
    check_labels(ids, num_classes, "the label_map")
