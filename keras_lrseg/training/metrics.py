"""The metric of semantic segmentation, exact on every backend."""

import keras
from keras import ops

from keras_lrseg.evaluation import Scores
from keras_lrseg.layers import resize_bilinear
from keras_lrseg.training.losses import IGNORE, as_label_map

# The counts are int32 pairs, low + high · 2^20: JAX has no int64 by default, and
# float32 stops counting at 2^24. TensorFlow adds up the pairs of many devices, so that
# `low` stays far from the end of int32.
_CARRY = 2**20


@keras.saving.register_keras_serializable(package="keras_lrseg")
class MeanIoU(keras.metrics.Metric):
    """Mean intersection over union from an exact integer confusion matrix.

    Args:
        num_classes: number of labels.
        ignore_class: the label of the truth that is left out.
        classes: names for `scores()`; None for "class 0", ...
        name: of the metric.

    `update_state` takes labels (B, H, W) or (B, H, W, 1), and either logits
    (B, h, w, K), enlarged bilinearly to (H, W) if smaller, or label maps (B, H, W).
    `result()` is the mean over the classes that occur; `scores()` has all the rest.
    """

    def __init__(
        self, num_classes, ignore_class=IGNORE, classes=None, name="miou", dtype=None
    ):
        super().__init__(name=name, dtype=dtype)
        self.num_classes = num_classes
        self.ignore_class = ignore_class
        self.classes = tuple(classes or (f"class {i}" for i in range(num_classes)))
        self.low, self.high = (
            self.add_variable(
                (num_classes, num_classes), "zeros", dtype="int32", name=name
            )
            for name in ("low", "high")
        )

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Count a batch; `sample_weight` must be None."""
        if sample_weight is not None:
            raise ValueError("MeanIoU counts pixels and takes no sample_weight.")
        y_true = as_label_map(y_true)
        if len(y_pred.shape) == 4:
            y_pred = resize_bilinear(y_pred, ops.shape(y_true)[1:3])
            y_pred = ops.argmax(y_pred, axis=-1)
        y_true = ops.reshape(y_true, (-1,))
        y_pred = ops.reshape(ops.cast(y_pred, "int32"), (-1,))
        k = self.num_classes
        # Ignored pixels, and labels that are none, fall in a cell beyond the matrix.
        valid = y_true != self.ignore_class
        for labels in (y_true, y_pred):
            known = ops.logical_and(labels >= 0, labels < k)
            valid = ops.logical_and(valid, known)
        cell = ops.where(valid, y_true * k + y_pred, k * k)
        counts = count_values(cell, k * k + 1)
        low = self.low + ops.reshape(counts[:-1], (k, k))
        carry = low // _CARRY
        self.low.assign(low - carry * _CARRY)
        self.high.assign(self.high + carry)

    def result(self):
        confusion = ops.cast(self.low, "float32")
        confusion = confusion + ops.cast(self.high, "float32") * _CARRY
        hits = ops.diagonal(confusion)
        union = ops.sum(confusion, 0) + ops.sum(confusion, 1) - hits
        present = ops.cast(union > 0, "float32")
        iou = hits / ops.maximum(union, 1)
        return ops.sum(iou * present) / ops.maximum(ops.sum(present), 1)

    def scores(self) -> Scores:
        """All scores of the counts so far, in exact integers."""
        low, high = (
            ops.convert_to_numpy(v).astype("int64") for v in (self.low, self.high)
        )
        return Scores(low + high * _CARRY, self.classes)

    def get_config(self):
        return {
            "num_classes": self.num_classes,
            "ignore_class": self.ignore_class,
            "classes": list(self.classes),
            "name": self.name,
            "dtype": self.dtype,
        }


def count_values(values, size):
    """How often each of 0..size-1 occurs, exact int32."""
    if keras.config.backend() == "torch":
        # Its segment_sum adds float32, which stops at 2^24.
        return ops.cast(ops.bincount(values, minlength=size), "int32")
    # bincount has no static shape under jit.
    return ops.segment_sum(ops.ones_like(values), values, num_segments=size)
