"""Class representations mined from labels: what would have been ideal for an image.

A 1×1 convolution compares the pixels of every image with the same representations of
the classes, its weights W (K, C). Given the labels, those that suit one image best are
known: with its features E (N, C) and its one-hot labels M (K, N), OffSeg's section 3.2,
equation (2) takes the solution of M = W*·Eᵀ by the Moore-Penrose pseudo-inverse,

    W* = M · (Eᵀ)⁺

How well argmax(W*·Eᵀ) labels the image says, optimistically since W* has seen the
labels, what these features hold; how little the W* of different images resemble each
other says what one W for all images misses.

The equation leaves open, and this is what we do:

- Labels have the image's resolution and features a coarser one. Each pixel is given the
  feature of the cell that it lies in, so that N counts pixels and a class of few pixels
  is not lost; sums over the pixels of a cell keep the cost at that of the cells.
- Ignored pixels are left out of M and E.
- A class that is not in the image gets a row of zeros, as the equation has it, and
  takes part in no similarity.
- No constant feature is appended: like the equation's, our W* has no bias.
- Singular values of E below 1e-5 of the largest one count as zero: the features are
  float32, and what lies below is rounding. The similarities depend on this choice.
"""

import dataclasses
import json
from collections.abc import Callable

import keras
import numpy as np

from keras_lrseg.backbones.inputs import check_images
from keras_lrseg.data import IGNORE_LABEL, check_labels
from keras_lrseg.evaluation import Scores, check_classes, confusion_matrix, labels_of
from keras_lrseg.models import SemanticSegmenter

RCOND = 1e-5  # about the rounding of float32 features
EXAMPLES = 10  # images a class in Figure 3


@dataclasses.dataclass(frozen=True)
class MinedRepresentations:
    """What `mine_class_representations` found out; K classes.

    Args:
        own: scores of the model as it is.
        mined: scores of the same features with each image's ideal representations.
        images: number of images that hold each class, (K,).
        similarity: mean cosine between the mined representations of a class in two
            images, (K,); NaN for a class in fewer than two images.
        similarity_to_own: mean cosine between them and the model's own one, (K,); NaN
            for a class in no image, or if the classifier has no such weights.
        matrices: for each class the cosines between the first ten images that hold it,
            (n, n): the heat maps of Figure 3.
        typical: for each class the index of the image whose labelled pixels it covers
            most nearly to the half, (K,); -1 for a class in no image.
    """

    own: Scores
    mined: Scores
    images: np.ndarray
    similarity: np.ndarray
    similarity_to_own: np.ndarray
    matrices: tuple[np.ndarray, ...]
    typical: np.ndarray

    @property
    def classes(self) -> tuple[str, ...]:
        """K names."""
        return self.own.classes

    def examples(self, count: int = 6) -> list[tuple[int, int]]:
        """The `count` classes that most images hold as (typical image, class) pairs."""
        often = np.argsort(-self.images, kind="stable")[:count]
        return [(int(self.typical[k]), int(k)) for k in often if self.images[k]]

    def __str__(self) -> str:
        """A table: a row for each class, then the means."""
        width = max(len(name) for name in (*self.classes, "class"))
        rows = [f"{'class':{width}}  IoU own  mined  images  similarity  to own"]
        rows += [
            f"{name:{width}}  {own:7.3f}  {mined:5.3f}  {images:6d}  "
            f"{similarity:10.3f}  {to_own:6.3f}"
            for name, own, mined, images, similarity, to_own in self._columns()
        ]
        for title, scores in (("own", self.own), ("mined", self.mined)):
            rows.append(f"{title + ':':6} {str(scores).splitlines()[-1]}")
        return "\n".join(rows)

    def to_json(self) -> str:
        """Scores and similarities as one JSON object; what has no value is null."""
        classes = {
            name: {
                "images": int(images),
                "similarity": _number(similarity),
                "similarity_to_own": _number(to_own),
            }
            for name, _, _, images, similarity, to_own in self._columns()
        }
        scores = {
            "own": json.loads(self.own.to_json()),
            "mined": json.loads(self.mined.to_json()),
        }
        return json.dumps({**scores, "classes": classes}, indent=2)

    def _columns(self):
        return zip(
            self.classes,
            self.own.iou,
            self.mined.iou,
            self.images,
            self.similarity,
            self.similarity_to_own,
            strict=True,
        )


def mine_class_representations(
    model, dataset, progress: Callable | None = None, rcond: float = RCOND
) -> MinedRepresentations:
    """Mine the ideal class representations of each image, and compare.

    One image at a time, at its own size; on JAX every new size compiles the model once.

    Args:
        model: a `SemanticSegmenter`, with any classifier.
        dataset: a `SegmentationDataset`, or any sequence of (image, mask) with
            `classes`.
        progress: wraps the indices, for example `tqdm.tqdm`.
        rcond: as of `ideal_representations`.

    Raises:
        ValueError: if the model is no `SemanticSegmenter` or has another number of
            classes, or if no pixel of the data is labelled.

    Reference: OffSeg, section 3.2, equation (2) and Figure 3.
    """
    predict = features_and_output(model)
    check_classes(model, dataset)
    classes = tuple(dataset.classes)
    k = len(classes)
    own, mined = np.zeros((2, k, k), "int64")
    directions = _Directions(k, own_representations(model))
    indices = range(len(dataset))
    for i in progress(indices) if progress else indices:
        image, mask = dataset[i]
        if (mask == IGNORE_LABEL).all():
            continue
        features, output = predict(image)
        ideal = ideal_representations(features, mask, k, rcond)
        logits = (features @ ideal.T)[None].astype("float32")  # (1, h, w, K)
        own += confusion_matrix(mask, labels_of(output, mask.shape), k)
        mined += confusion_matrix(mask, labels_of(logits, mask.shape), k)
        directions.add(i, ideal, np.bincount(mask.ravel(), minlength=k)[:k])
    if not own.any():
        raise ValueError(
            f"The data has no labelled pixel: all are {IGNORE_LABEL} (ignored)."
        )
    return MinedRepresentations(
        Scores(own, classes), Scores(mined, classes), **directions.results()
    )


def ideal_representations(
    features: np.ndarray, mask: np.ndarray, num_classes: int, rcond: float = RCOND
) -> np.ndarray:
    """Return W* of one image: the least-squares solution of M = W*·Eᵀ of least norm.

    Args:
        features: (h, w, C); each pixel of the mask has the feature of the cell that it
            lies in.
        mask: labels (H, W), 0..K-1, or 255 for pixels that do not count.
        num_classes: K.
        rcond: singular values of E below this share of the largest count as zero;
            0..1. The larger it is, the smaller and the more alike the results, and the
            further from the labels.

    Returns:
        float64 (K, C); zeros for a class without a pixel.

    Raises:
        ValueError: if a label is not below K, the features are not finite, or `rcond`
            is out of its range.

    Reference: OffSeg, section 3.2, equation (2).
    """
    if not 0 <= rcond < 1:
        raise ValueError(f"rcond expects a number from 0 to below 1. Received: {rcond}")
    check_labels(mask, num_classes, "mask")
    counts = _label_counts(mask, features.shape[:2], num_classes)  # (h, w, K)
    channels = features.shape[-1]
    gram = np.zeros((channels, channels))  # Eᵀ·E
    sums = np.zeros((channels, num_classes))  # Eᵀ·Mᵀ
    for cells, labels in zip(features, counts, strict=True):  # (w, C) and (w, K)
        cells = cells.astype("float64")
        gram += cells.T @ (cells * labels.sum(axis=-1, keepdims=True))
        sums += cells.T @ labels
    if not np.isfinite(gram).all():
        raise ValueError("The model's features are not finite (NaN or infinite).")
    squares, vectors = np.linalg.eigh(gram)  # ascending
    kept = squares > rcond**2 * max(squares[-1], 0)
    vectors = vectors[:, kept]
    return ((vectors / squares[kept]) @ (vectors.T @ sums)).T


def _label_counts(mask, grid, num_classes):
    """How many pixels of each class lie in each cell of a grid: (h, w, K)."""
    rows, columns = (  # the cell that the centre of a pixel is in
        (2 * np.arange(size) + 1) * cells // (2 * size)
        for size, cells in zip(mask.shape, grid, strict=True)
    )
    cell = rows[:, None] * grid[1] + columns  # (H, W)
    labelled = mask != IGNORE_LABEL
    index = cell[labelled] * num_classes + mask[labelled]
    size = grid[0] * grid[1] * num_classes
    return np.bincount(index, minlength=size).reshape(*grid, num_classes)


def features_and_output(model) -> Callable:
    """Return a function from an image, (H, W, 3), to features and the model's output.

    They are (h, w, C), what the classifier gets without dropout, and (1, H, W, K).
    """
    if not isinstance(model, SemanticSegmenter):
        raise ValueError(
            "Mining needs a SemanticSegmenter, with a decoder and a classifier. "
            f"Received: {model}"
        )
    both = keras.Model(model.input, [model.features, model.output])

    def predict(image):
        check_images(image[None])
        features, output = both.predict_on_batch(image[None])
        return features[0].astype("float32"), output

    return predict


def own_representations(model) -> np.ndarray | None:
    """Return the (K, C) weights that the model's classifier compares features with.

    They are those of `OffsetLearning` before any offset, or the kernel of a linear map;
    None for another classifier.
    """
    learnt = getattr(model.classifier, "class_representations", None)
    if learnt is not None:
        return keras.ops.convert_to_numpy(learnt)
    kernel = getattr(model.classifier, "kernel", None)
    shape = (model.features.shape[-1], model.num_classes)
    if kernel is None or tuple(kernel.shape) not in (shape, (1, 1, *shape)):
        return None
    return keras.ops.convert_to_numpy(kernel).reshape(shape).T


def unit(vectors) -> np.ndarray:
    """Scale vectors along the last axis to length 1; zeros stay zeros."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(lengths == 0, 1, lengths)


class _Directions:
    """The directions of mined representations, summed up image by image.

    Between n unit vectors, the mean cosine of two is (|their sum|² - n) / (n·(n - 1)):
    there is no need to keep them. A zero vector has a cosine of 0 with any other.
    """

    def __init__(self, num_classes, own):
        self.own = own
        self.images = np.zeros(num_classes, "int64")
        self.sums = 0.0  # (K, C)
        self.lengths = 0.0  # (K,)
        self.first = [[] for _ in range(num_classes)]
        self.typical = np.full(num_classes, -1)
        self.distance = np.full(num_classes, np.inf)  # of the typical one's share

    def add(self, index, ideal, pixels):
        ideal = unit(ideal)  # (K, C)
        self.images += pixels > 0
        self.sums = self.sums + ideal
        self.lengths = self.lengths + (ideal**2).sum(axis=-1)
        distance = abs(pixels / pixels.sum() - 0.5)
        for label in np.flatnonzero(pixels):
            if len(self.first[label]) < EXAMPLES:
                self.first[label].append(ideal[label])
            if distance[label] < self.distance[label]:
                self.typical[label], self.distance[label] = index, distance[label]

    def results(self):
        n = self.images
        pairs = np.where(n > 1, n * (n - 1.0), np.nan)
        to_own = np.full(len(n), np.nan)
        if self.own is not None:
            cosines = (self.sums * unit(self.own)).sum(axis=-1)
            to_own = cosines / np.where(n > 0, n, np.nan)
        first = [np.array(vectors or np.zeros((0, 1))) for vectors in self.first]
        return {
            "images": n,
            "similarity": ((self.sums**2).sum(axis=-1) - self.lengths) / pairs,
            "similarity_to_own": to_own,
            "matrices": tuple(vectors @ vectors.T for vectors in first),
            "typical": self.typical,
        }


def _number(value):
    return None if np.isnan(value) else round(float(value), 6)
