"""Scores of a segmentation from its confusion matrix, as mmsegmentation has them."""

import dataclasses
import json

import numpy as np


@dataclasses.dataclass(frozen=True)
class Scores:
    """Scores from a confusion matrix; every value is a fraction in [0, 1].

    Classes that occur neither in the truth nor in the predictions have no value (NaN)
    and do not count in the means.

    Args:
        confusion: (K, K) pixel counts; rows are the truth, columns the predictions.
        classes: K names.
    """

    confusion: np.ndarray
    classes: tuple[str, ...]

    @property
    def iou(self) -> np.ndarray:
        """Intersection over union of each class, (K,)."""
        hits = np.diag(self.confusion)
        return _divide(hits, self._truth + self._predicted - hits)

    @property
    def accuracy(self) -> np.ndarray:
        """Share of each class's pixels that are labelled right, (K,)."""
        return _divide(np.diag(self.confusion), self._truth)

    @property
    def miou(self) -> float:
        """Mean intersection over union."""
        return _nanmean(self.iou)

    @property
    def mean_accuracy(self) -> float:
        """Mean of the classes' accuracies."""
        return _nanmean(self.accuracy)

    @property
    def pixel_accuracy(self) -> float:
        """Share of all labelled pixels that are labelled right."""
        hits, total = np.trace(self.confusion), self.confusion.sum()
        return float(_divide(hits, total))

    @property
    def constant_miou(self) -> float:
        """mIoU of answering the truth's most frequent class everywhere."""
        constant = np.zeros_like(self.confusion)
        constant[:, np.argmax(self._truth)] = self._truth
        return Scores(constant, self.classes).miou

    @property
    def _truth(self):
        return self.confusion.sum(axis=1)

    @property
    def _predicted(self):
        return self.confusion.sum(axis=0)

    def __str__(self) -> str:
        """A table: a row for each class, then the means."""
        total = max(self.confusion.sum(), 1)
        width = max(len(name) for name in (*self.classes, "class"))
        rows = [f"{'class':{width}}   IoU   acc.  share"]
        values = zip(self.classes, self.iou, self.accuracy, self._truth, strict=True)
        for name, iou, accuracy, pixels in values:
            share = pixels / total
            rows.append(f"{name:{width}}  {iou:5.3f}  {accuracy:5.3f}  {share:5.3f}")
        rows.append(
            f"mIoU {self.miou:.4f}, mean accuracy {self.mean_accuracy:.4f}, "
            f"pixel accuracy {self.pixel_accuracy:.4f}"
        )
        return "\n".join(rows)

    def to_json(self) -> str:
        """The scores as one JSON object; a class without a value is null."""
        values = zip(self.classes, self.iou, self.accuracy, self._truth, strict=True)
        return json.dumps(
            {
                "miou": number(self.miou),
                "mean_accuracy": number(self.mean_accuracy),
                "pixel_accuracy": number(self.pixel_accuracy),
                "classes": {
                    name: {
                        "iou": number(iou),
                        "accuracy": number(accuracy),
                        "pixels": int(pixels),
                    }
                    for name, iou, accuracy, pixels in values
                },
            },
            indent=2,
        )


def confusion_matrix(
    truth: np.ndarray, predicted: np.ndarray, num_classes: int, ignore: int = 255
) -> np.ndarray:
    """Count pixels by true and predicted label, exactly: (K, K) int64.

    Args:
        truth, predicted: label maps of the same shape; `ignore` in the truth is left
            out.

    Raises:
        ValueError: if the shapes differ or a label is not below `num_classes`.
    """
    if truth.shape != predicted.shape:
        raise ValueError(
            "Truth and prediction must have the same shape. "
            f"Received: {truth.shape} and {predicted.shape}"
        )
    valid = truth != ignore
    truth, predicted = truth[valid].astype("int64"), predicted[valid].astype("int64")
    labels = np.concatenate([truth.ravel(), predicted.ravel()])
    wrong = labels[(labels < 0) | (labels >= num_classes)]
    if len(wrong):
        raise ValueError(
            f"Labels must be 0 or more and below {num_classes}, or {ignore}. "
            f"Received: {wrong[0]}"
        )
    counts = np.bincount(truth * num_classes + predicted, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def _divide(numerator, denominator):
    """Divide; NaN where the denominator is 0."""
    nothing = np.full(np.shape(numerator), np.nan)
    return np.divide(numerator, denominator, out=nothing, where=denominator != 0)


def _nanmean(values):
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else float("nan")


def number(value: float) -> float | None:
    """A value for JSON or CSV: six decimals, None for NaN."""
    return None if np.isnan(value) else round(float(value), 6)
