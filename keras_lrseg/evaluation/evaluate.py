"""Score a model on labelled images."""

import csv
import dataclasses
import io
import json
from collections.abc import Callable

import numpy as np

from keras_lrseg.evaluation.predict import check_segmenter, predict_labels
from keras_lrseg.evaluation.scores import Scores, confusion_matrix, number
from keras_lrseg.evaluation.settings import TestSettings

GROUPS = ("small", "medium", "large")


@dataclasses.dataclass(frozen=True)
class Evaluation(Scores):
    """Scores of a dataset, and what each image and each group of classes adds to them.

    Args:
        confusion: (K, K) pixel counts of all images together.
        classes: K names.
        image_names: N names.
        image_miou: (N,), the mIoU of each image alone; NaN where nothing is labelled.
        mean_share: (K,), the mean share of a class in the labelled pixels of the images
            that show it; NaN where none does.
        settings: how the images were tested.
    """

    image_names: tuple[str, ...]
    image_miou: np.ndarray
    mean_share: np.ndarray
    settings: TestSettings

    @property
    def groups(self) -> dict[str, np.ndarray]:
        """Indices of small, medium and large classes: thirds by `mean_share`.

        LRFormer's Table 8 does not say which classes it groups, nor by what: this is
        our measure, of the truth the scores are computed from. Classes that no image
        shows are in no group.
        """
        order = np.argsort(self.mean_share, kind="stable")
        order = order[~np.isnan(self.mean_share[order])]
        return dict(zip(GROUPS, np.array_split(order, len(GROUPS)), strict=True))

    @property
    def group_miou(self) -> dict[str, float]:
        """Mean IoU of the classes of each group; NaN for an empty one."""
        return {
            name: float(self.iou[classes].mean()) if len(classes) else float("nan")
            for name, classes in self.groups.items()
        }

    def extremes(self, count: int) -> tuple[list[int], list[int]]:
        """Return the indices of the `count` worst and best images, worst first.

        No image is in both; images without a labelled pixel are in neither.
        """
        order = np.argsort(self.image_miou, kind="stable")
        order = order[~np.isnan(self.image_miou[order])].tolist()
        count = min(count, (len(order) + 1) // 2)
        return order[:count], order[count:][-count:]

    def __str__(self) -> str:
        """The table of `Scores` with the means of the groups."""
        means = ", ".join(f"{k} {v:.4f}" for k, v in self.group_miou.items())
        return f"{super().__str__()}\nmIoU of the thirds of classes by size: {means}"

    def to_json(self) -> str:
        """The object of `Scores` with "groups", "images" and "settings"."""
        result = json.loads(super().to_json())
        groups, means = self.groups, self.group_miou
        result["groups"] = {
            name: {
                "miou": number(means[name]),
                "classes": [self.classes[i] for i in groups[name]],
            }
            for name in GROUPS
        }
        result["images"] = [
            {"name": name, "miou": number(value)}
            for name, value in zip(self.image_names, self.image_miou, strict=True)
        ]
        result["settings"] = dataclasses.asdict(self.settings)
        return json.dumps(result, indent=2)

    def to_csv(self) -> str:
        """A line for each class: its scores, pixels, mean share and group.

        A class without a value has an empty field.
        """
        group_of = {i: name for name, group in self.groups.items() for i in group}
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("class", "iou", "accuracy", "pixels", "mean_share", "group"))
        pixels = self.confusion.sum(axis=1).tolist()
        columns = (self.classes, self.iou, self.accuracy, pixels, self.mean_share)
        for i, (name, iou, accuracy, count, share) in enumerate(
            zip(*columns, strict=True)
        ):
            fractions = number(iou), number(accuracy), count, number(share)
            writer.writerow((name, *fractions, group_of.get(i)))
        return text.getvalue()


def evaluate(
    model,
    dataset,
    settings: TestSettings | None = None,
    progress: Callable | None = None,
) -> Evaluation:
    """Score a segmenter on a dataset, each image at its original size.

    Args:
        model: a segmenter.
        dataset: a `SegmentationDataset`, or any sequence of (image, mask) with
            `classes`.
        settings: how images are tested, for example
            `paper_settings("ade20k", "LRFormer")`; None: whole, as they are.
        progress: wraps the indices, for example `tqdm.tqdm`.

    Raises:
        ValueError: if the model is no segmenter or has another number of classes.
    """
    check_classes(model, dataset)
    settings = settings or TestSettings()
    k = len(dataset.classes)
    confusion = np.zeros((k, k), "int64")
    name_of = getattr(dataset, "image_name", "image {}".format)
    names, image_miou, shares, shown = [], [], np.zeros(k), np.zeros(k)
    indices = range(len(dataset))
    for i in progress(indices) if progress else indices:
        image, mask = dataset[i]
        counts = confusion_matrix(mask, predict_labels(model, image, settings), k)
        confusion += counts
        names.append(name_of(i))
        image_miou.append(Scores(counts, tuple(dataset.classes)).miou)
        truth = counts.sum(axis=1)
        shares += truth / max(truth.sum(), 1)
        shown += truth > 0
    mean_share = np.divide(shares, shown, out=np.full(k, np.nan), where=shown > 0)
    return Evaluation(
        confusion,
        tuple(dataset.classes),
        tuple(names),
        np.array(image_miou),
        mean_share,
        settings,
    )


def check_classes(model, dataset) -> None:
    """Raise a ValueError unless the model segments the classes of the data."""
    check_segmenter(model)
    if model.output_shape[-1] != len(dataset.classes):
        raise ValueError(
            f"The model has {model.output_shape[-1]} classes and the data "
            f"{len(dataset.classes)}: {', '.join(dataset.classes)}. Give the classes "
            "the model was trained on."
        )
