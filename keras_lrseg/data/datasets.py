"""The public data sets, from their files as they are distributed."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_lrseg.data.class_names import read_classes
from keras_lrseg.data.dataset import SegmentationDataset
from keras_lrseg.data.files import IMAGE_SUFFIXES, UNKNOWN_LABEL
from keras_lrseg.data.layouts import Files, Layout, WrongLayout, expectation

IGNORED = 255


def label_map(train_ids: dict[int, int]) -> np.ndarray:
    """A table uint8 (256,) from a mask's values to train ids; others are unknown."""
    table = np.full(256, UNKNOWN_LABEL, np.uint8)
    table[list(train_ids)] = list(train_ids.values())
    return table


# 0 is "other objects" (ADE20K) or background (Pascal Context).
FROM_ONE_150 = label_map({0: IGNORED} | {i + 1: i for i in range(150)})
FROM_ONE_59 = label_map({0: IGNORED} | {i + 1: i for i in range(59)})

# COCO's category ids less one. These eleven have no pixels: street sign, hat, shoe, eye
# glasses, plate, mirror, window, desk, door, blender, hair brush.
_UNUSED = {11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90}
_USED = [i for i in range(182) if i not in _UNUSED]
COCO_IDS = label_map({value: i for i, value in enumerate(_USED)} | {255: IGNORED})

# Cityscapes' label ids 0..33; the 19 classes that are scored, in their order.
_SCORED = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
CITYSCAPES_IDS = label_map(
    dict.fromkeys([*range(34), 255], IGNORED) | {v: i for i, v in enumerate(_SCORED)}
)

CAMVID_WITH_VOID = label_map({i: i for i in range(11)} | {11: IGNORED, 255: IGNORED})


@dataclass(frozen=True)
class DatasetInfo:
    """A public data set.

    Args:
        page: the project's page, with its terms and downloads.
        splits: for each split the name of its folder and its published size.
        layouts: in order of preference.
        class_file: in the package's folder `classes`.
    """

    page: str
    splits: dict[str, tuple[str, int]]
    layouts: tuple[Layout, ...]
    class_file: str

    @property
    def classes(self) -> Path:
        """Names and colours, to be given to `from_folders` too."""
        return Path(__file__).with_name("classes") / self.class_file


JPEG, PNG = (".jpg",), ".png"
CITYSCAPES_IMAGES = ("leftImg8bit/{split}", ("_leftImg8bit.png",), "gtFine/{split}")

DATASETS = {
    "ade20k": DatasetInfo(
        "http://sceneparsing.csail.mit.edu",
        {"train": ("training", 20210), "validation": ("validation", 2000)},
        (Layout("images/{split}", JPEG, "annotations/{split}", PNG, FROM_ONE_150),),
        "ade20k.txt",
    ),
    "coco_stuff": DatasetInfo(
        "https://github.com/nightrome/cocostuff",
        {"train": ("train2017", 118287), "validation": ("val2017", 5000)},
        (
            Layout("images/{split}", JPEG, "annotations/{split}", "_labelTrainIds.png"),
            Layout("images/{split}", JPEG, "annotations/{split}", PNG, COCO_IDS),
        ),
        "coco_stuff.txt",
    ),
    "cityscapes": DatasetInfo(
        "https://www.cityscapes-dataset.com",
        {"train": ("train", 2975), "validation": ("val", 500)},
        (
            Layout(*CITYSCAPES_IMAGES, "_gtFine_labelTrainIds.png"),
            Layout(*CITYSCAPES_IMAGES, "_gtFine_labelIds.png", CITYSCAPES_IDS),
        ),
        "cityscapes.txt",
    ),
    "pascal_context": DatasetInfo(
        "https://cs.stanford.edu/~roozbeh/pascal-context",
        {"train": ("train", 4998), "validation": ("val", 5105)},
        (
            Layout(
                "JPEGImages",
                JPEG,
                "SegmentationClassContext",
                PNG,
                FROM_ONE_59,
                "ImageSets/SegmentationContext/{split}.txt",
            ),
        ),
        "pascal_context.txt",
    ),
    "camvid": DatasetInfo(
        "http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid",
        {"train": ("train", 367), "validation": ("val", 101), "test": ("test", 233)},
        (
            Layout("{split}/images", IMAGE_SUFFIXES, "{split}/masks", PNG),
            Layout("{split}", IMAGE_SUFFIXES, "{split}annot", PNG, CAMVID_WITH_VOID),
        ),
        "camvid.txt",
    ),
}
"""What `load_dataset` knows, by name."""


def load_dataset(name: str, root: str | Path, split: str) -> SegmentationDataset:
    """A split of a public data set, as train ids with 255 = ignored.

    Example:

        dataset = load_dataset("ade20k", "/data/ADEChallengeData2016", "train")

    Args:
        name: "ade20k", "coco_stuff", "cityscapes", "pascal_context" or "camvid".
        root: the folder that holds the folders of `DATASETS[name].layouts`.
        split: "train" or "validation"; "camvid" also has "test".

    Warns where the number of images is not the published one.

    Raises: ValueError for an unknown name or split, and for images without masks;
        FileNotFoundError with the expected folders where they are not there.
    """
    if name not in DATASETS:
        raise ValueError(f"Expected one of {', '.join(DATASETS)}, got {name!r}.")
    info = DATASETS[name]
    if split not in info.splits:
        raise ValueError(
            f"Expected a split of {name}, {' or '.join(info.splits)}, got {split!r}."
        )
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"No such folder: {root}")
    folder, published = info.splits[split]
    tries = [Files(layout, root, folder) for layout in info.layouts]
    best = min(tries, key=lambda files: files.share_unpaired)
    if best.share_unpaired == 1 and not (best.found and best.not_there):
        raise WrongLayout(expectation(f"{name}/{split}", info.page, tries))
    best.check()
    if len(best.images) != published:
        warnings.warn(
            f"Found {len(best.images)} images of {name}/{split}, where {published} are "
            "published: results will not compare with others'.",
            stacklevel=2,
        )
    return SegmentationDataset(
        list(best.images.values()),
        [best.masks[key] for key in best.images],
        *read_classes(info.classes),
        f"{name}/{split}",
        best.layout.label_map,
    )
