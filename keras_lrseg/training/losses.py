"""The losses of segmentation and classification."""

import keras
from keras import ops

from keras_lrseg.layers import resize_bilinear
from keras_lrseg.training.collectives import shared_mean

IGNORE = 255


@keras.saving.register_keras_serializable(package="keras_lrseg")
class SegmentationCrossEntropy(keras.losses.SparseCategoricalCrossentropy):
    """Cross-entropy of logits, the mean over the labelled pixels of the batch.

    The authors average over all pixels, ignored ones included; here a crop with much
    unlabelled area weighs no less. It is 0 when every pixel is ignored. On several
    devices the batch is that of all of them.

    Args:
        ignore_class: the label that is left out.
        name: of the loss.

    Call arguments:
        y_true: labels (B, H, W) of any integer type; (B, H, W, 1) too.
        y_pred: logits (B, h, w, K), enlarged bilinearly to (H, W) if smaller.
    """

    def __init__(self, ignore_class=IGNORE, name="segmentation_cross_entropy"):
        super().__init__(
            from_logits=True, ignore_class=ignore_class, name=name, dtype="float32"
        )

    def __call__(self, y_true, y_pred, sample_weight=None):
        mean = super().__call__(y_true, y_pred, sample_weight)
        labelled = ops.cast(ops.not_equal(y_true, self.ignore_class), "float32")
        return shared_mean(mean, ops.sum(labelled))

    def call(self, y_true, y_pred):
        y_true = as_label_map(y_true)
        y_pred = resize_bilinear(y_pred, ops.shape(y_true)[1:3])
        return super().call(y_true, y_pred)

    def get_config(self):
        return {"ignore_class": self.ignore_class, "name": self.name}


@keras.saving.register_keras_serializable(package="keras_lrseg")
class ClassificationCrossEntropy(keras.losses.CategoricalCrossentropy):
    """Cross-entropy of logits with soft labels, the mean over the images of the batch.

    On several devices the batch is that of all of them.

    Call arguments:
        y_true: labels (B, K), each row's sum 1.
        y_pred: logits (B, K).
    """

    def __init__(self, name="classification_cross_entropy"):
        super().__init__(from_logits=True, name=name, dtype="float32")

    def __call__(self, y_true, y_pred, sample_weight=None):
        mean = super().__call__(y_true, y_pred, sample_weight)
        return shared_mean(mean, ops.cast(ops.shape(y_true)[0], "float32"))

    def get_config(self):
        return {"name": self.name}


def as_label_map(labels):
    """Labels as int32 (B, H, W)."""
    labels = ops.cast(labels, "int32")
    return ops.squeeze(labels, -1) if len(labels.shape) == 4 else labels
