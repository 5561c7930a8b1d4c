"""The loss of mask classification (Mask2Former, CVPR 2022, section 3.3)."""

import functools

import keras
from keras import ops

from keras_lrseg.layers.convolution import pixelwise_product
from keras_lrseg.layers.random import uniform
from keras_lrseg.training.collectives import shared_mean
from keras_lrseg.training.losses import IGNORE, as_label_map
from keras_lrseg.training.matching import match
from keras_lrseg.training.metrics import count_values
from keras_lrseg.training.point_sampling import (
    most_uncertain,
    read_classes,
    read_maps,
)


@keras.saving.register_keras_serializable(package="keras_lrseg")
class MaskClassificationLoss(keras.losses.Loss):
    """Loss of classified masks against label maps.

    The masks to be found are the classes that an image shows. For each prediction,
    every mask is matched with the query that fits best; the others have to say "no
    object". The loss is the sum over all predictions of

    - the cross-entropy of the queries' classes, weighted mean over all queries,
    - binary cross-entropy and Dice of the matched masks, mean over all masks,

    where masks are compared at points: a mask's cost at random ones, its loss mostly
    where it is least certain. On several devices the means are over those of all.

    The random points of an image serve all its masks and predictions, where the authors
    draw new ones for each: the same loss in expectation. Ignored pixels belong to no
    mask, as theirs. Of more classes than queries the largest take part. A label that is
    no class makes the loss NaN, for a compiled graph cannot raise:
    `SegmentationDataset.check` names the file.

    Args:
        class_weight, mask_weight, dice_weight: of the three terms, in costs too.
        no_object_weight: of an unmatched query among the classes' weights, which are 1.
        num_points: P, where a mask is compared.
        oversampling: how many times P points the least certain are chosen from.
        importance: share of P that is chosen so, 0..1; the rest are random.
        ignore_class: the label that is left out.
        name: of the loss.

    Call arguments:
        y_true: labels (B, H, W) of any integer type; (B, H, W, 1) too.
        y_pred: predictions `[class_logits, mask_logits]`, (B, Q, K + 1) and (B, h, w,
            Q) each, as `MaskedAttentionDecoder` gives them.
        seed: the `keras.random.SeedGenerator` that the points come from; None: Keras's.

    Raises:
        ValueError: if the points' numbers are out of range.

    Reference: Mask2Former, section 3.3; MaskFormer (NeurIPS 2021), equations (1), (2).
    """

    of_predictions = True  # what `MaskClassificationSegmenter` asks of a loss

    def __init__(
        self,
        class_weight=2.0,
        mask_weight=5.0,
        dice_weight=5.0,
        no_object_weight=0.1,
        num_points=12544,
        oversampling=3.0,
        importance=0.75,
        ignore_class=IGNORE,
        name="mask_classification_loss",
    ):
        super().__init__(name=name, dtype="float32")
        if num_points < 1 or oversampling < 1 or not 0 <= importance <= 1:
            raise ValueError(
                "MaskClassificationLoss expects num_points and oversampling of 1 or "
                f"more, and importance in 0..1. Received: num_points={num_points}, "
                f"oversampling={oversampling}, importance={importance}"
            )
        self.class_weight = class_weight
        self.mask_weight = mask_weight
        self.dice_weight = dice_weight
        self.no_object_weight = no_object_weight
        self.num_points = num_points
        self.oversampling = oversampling
        self.importance = importance
        self.ignore_class = ignore_class
        self.uncertain = int(importance * num_points)
        # For costs, for the choice of uncertain ones, and the random rest.
        self.parts = (
            num_points,
            int(oversampling * num_points),
            num_points - self.uncertain,
        )

    def __call__(self, y_true, y_pred, sample_weight=None, seed=None):
        if sample_weight is not None:
            raise ValueError(f"{type(self).__name__} takes no sample_weight.")
        if not isinstance(y_pred, (list, tuple)):
            raise ValueError(
                f"{type(self).__name__} expects the predictions of a "
                "MaskClassificationSegmenter. For logits of pixels take "
                f"SegmentationCrossEntropy. Received: shape {tuple(y_pred.shape)}"
            )
        shape = (ops.shape(y_true)[0], sum(self.parts), 2)
        points = uniform(shape, seed)
        return super().__call__(y_true, [points, *y_pred])

    def call(self, y_true, y_pred):
        points, *predictions = y_pred
        labels = as_label_map(y_true)
        _, queries, classes = predictions[0][0].shape
        areas = self._areas(labels, classes - 1)
        areas, shown = ops.top_k(areas, min(queries, classes - 1))
        counts = ops.sum(ops.cast(areas > 0, "int32"), axis=1)  # (B,)
        # All predictions of an image side by side, and D·Q queries.
        class_logits, masks = zip(*predictions, strict=True)
        class_logits = ops.concatenate(class_logits, axis=1)

        def sums(rows):
            classes = ops.cast(shown[:, :rows], "int32")
            return self._sums(labels, classes, counts, points, class_logits, masks)

        class_sum, mask_sum = ops.unstack(
            _with_rows(ops.max(counts), areas.shape[1], sums), num=2
        )
        masks = ops.cast(ops.sum(counts), "float32")
        others = ops.cast(ops.shape(areas)[0] * queries, "float32") - masks
        weight = masks + self.no_object_weight * others
        loss = shared_mean(class_sum / weight, weight) + shared_mean(
            mask_sum / ops.maximum(masks, 1.0), masks
        )
        known = ops.logical_and(labels >= 0, labels < classes - 1)
        known = ops.logical_or(known, labels == self.ignore_class)
        loss = ops.where(ops.all(known), loss, float("nan"))
        # Of all but scalars Keras takes the mean over TensorFlow's devices.
        return loss[None]

    def _areas(self, labels, classes):
        """Pixels of each class in each image, int32 (B, K)."""
        images = ops.shape(labels)[0]
        image = ops.arange(images, dtype="int32")[:, None, None]
        known = ops.logical_and(labels >= 0, labels < classes)
        known = ops.logical_and(known, labels != self.ignore_class)
        cell = ops.where(known, image * classes + labels, images * classes)
        counts = count_values(ops.reshape(cell, (-1,)), images * classes + 1)
        return ops.reshape(counts[:-1], (-1, classes))

    def _sums(self, labels, classes, counts, points, class_logits, mask_logits):
        """Loss of all classes and that of all masks, summed over the predictions.

        Args:
            labels: (B, H, W).
            classes: (B, R), of which the first `counts` of each image are its masks.
            points: (B, N, 2).
            class_logits: (B, D·Q, K + 1) of D predictions.
            mask_logits: D of (B, h, w, Q).
        """
        depth, queries = len(mask_logits), mask_logits[0].shape[-1]
        rows = classes.shape[1]
        row = ops.arange(rows, dtype="int32")
        matching, compared = points[:, : self.num_points], points[:, self.num_points :]
        costs = self._costs(labels, classes, matching, class_logits, mask_logits)
        costs = ops.reshape(costs, (-1, rows, depth, queries))
        costs = ops.reshape(ops.swapaxes(costs, 1, 2), (-1, rows, queries))
        owners = match(costs, ops.repeat(counts, depth))  # (B·D, Q)
        owners = ops.reshape(owners, (-1, depth * queries))
        class_losses = self._class_losses(class_logits, owners, classes)
        own = ops.cast(owners[..., None] == row, "float32")  # (B, D·Q, R)
        own = ops.split(own, depth, axis=1)
        masks = ops.concatenate(list(map(pixelwise_product, mask_logits, own)), -1)
        logits = ops.swapaxes(read_maps(masks, compared), 1, 2)  # (B, D·R, N)
        logits = ops.reshape(logits, (-1, depth, rows, compared.shape[1]))
        targets = read_classes(labels, compared, classes)
        present = ops.cast(row < counts[:, None], "float32")[:, None]  # (B, 1, R)
        mask_losses = present * self._mask_losses(logits, targets)
        return ops.stack([ops.sum(class_losses), ops.sum(mask_losses)])

    def _costs(self, labels, classes, points, class_logits, mask_logits):
        """What each mask costs each query, (B, R, D·Q), without a gradient."""
        targets = read_classes(labels, points, classes)  # (B, R, P)
        probabilities = ops.softmax(ops.stop_gradient(class_logits))
        right = ops.take_along_axis(probabilities, classes[:, None], axis=-1)
        masks = ops.stop_gradient(ops.concatenate(mask_logits, axis=-1))
        logits = read_maps(masks, points)  # (B, P, D·Q)
        masks = ops.sigmoid(logits)
        everywhere = ops.sum(ops.softplus(logits), axis=1)[:, None]
        cross_entropy = (everywhere - ops.matmul(targets, logits)) / self.num_points
        areas = ops.sum(targets, axis=2)[..., None] + ops.sum(masks, axis=1)[:, None]
        return (
            self.mask_weight * cross_entropy
            + self.dice_weight * _dice(ops.matmul(targets, masks), areas)
            - self.class_weight * ops.swapaxes(right, 1, 2)
        )

    def _class_losses(self, logits, owners, classes):
        """Weighted cross-entropy of each query's class, (B, D·Q)."""
        matched = owners >= 0
        label = ops.take_along_axis(classes, ops.maximum(owners, 0), axis=1)
        label = ops.where(matched, label, logits.shape[-1] - 1)
        right = ops.take_along_axis(logits, label[..., None], axis=-1)[..., 0]
        weight = self.class_weight * ops.where(matched, 1.0, self.no_object_weight)
        return weight * (ops.logsumexp(logits, axis=-1) - right)

    def _mask_losses(self, logits, targets):
        """Weighted loss of each mask, (B, D, R), from its logits (B, D, R, N)."""
        pool = self.parts[1]
        chosen = most_uncertain(logits[..., :pool], targets[..., :pool], self.uncertain)
        rest = logits[..., pool:]
        random = [rest, ops.broadcast_to(targets[:, None, :, pool:], ops.shape(rest))]
        logits, targets = (
            ops.concatenate(pair, axis=-1) for pair in zip(chosen, random, strict=True)
        )
        masks = ops.sigmoid(logits)
        overlap = ops.sum(masks * targets, axis=-1)
        areas = ops.sum(masks + targets, axis=-1)
        cross_entropy = ops.mean(ops.softplus(logits) - logits * targets, axis=-1)
        dice = _dice(overlap, areas)
        return self.mask_weight * cross_entropy + self.dice_weight * dice

    def get_config(self):
        return {
            "class_weight": self.class_weight,
            "mask_weight": self.mask_weight,
            "dice_weight": self.dice_weight,
            "no_object_weight": self.no_object_weight,
            "num_points": self.num_points,
            "oversampling": self.oversampling,
            "importance": self.importance,
            "ignore_class": self.ignore_class,
            "name": self.name,
        }


def _dice(overlap, areas):
    """The Dice loss from the overlap of two masks and the sum of their areas."""
    return 1.0 - (2.0 * overlap + 1.0) / (areas + 1.0)


def _with_rows(count, limit, function):
    """Call `function(rows)` with a number of rows that holds `count`.

    Few images show many classes. A compiled graph has a branch for few, for more and
    for all.
    """
    if keras.config.backend() == "torch":
        return function(max(int(count), 1))
    sizes = [*(n for n in (8, 32) if n < limit), limit]
    if len(sizes) == 1:
        return function(limit)
    index = sum(ops.cast(count > size, "int32") for size in sizes[:-1])
    return ops.switch(index, [functools.partial(function, n) for n in sizes])
