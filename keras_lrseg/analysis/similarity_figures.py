"""Pictures of mined class representations: blue is a cosine of -1, red of 1."""

import pathlib
from collections.abc import Sequence

import numpy as np

from keras_lrseg.analysis.class_representations import (
    RCOND,
    MinedRepresentations,
    features_and_output,
    ideal_representations,
    own_representations,
    unit,
)
from keras_lrseg.analysis.figures import line_of_text
from keras_lrseg.data import IGNORE_LABEL, save_image

_GAP = 6  # pixels between pictures
_PANEL = 160  # pixels of a side of a matrix
_COLUMNS = 6  # of matrices
_BLUE, _GREY, _RED = (59, 76, 192), (221, 221, 221), (180, 4, 38)


def similarity_matrices(mined: MinedRepresentations, path: str | pathlib.Path) -> None:
    """Write Figure 3 of OffSeg: how alike a class's ideal representations are.

    A square for each class that occurs, each entry the cosine between its ideal
    representations in two of the first ten images that hold it.

    Args:
        mined: what `mine_class_representations` returned.
        path: of the picture; the suffix chooses the format.
    """
    panels = [
        _titled(name, _enlarge(_colours(matrix), _PANEL, _PANEL))
        for name, matrix in zip(mined.classes, mined.matrices, strict=True)
        if len(matrix)
    ]
    columns = min(_COLUMNS, len(panels))
    panels += [np.full_like(panels[0], 255)] * (-len(panels) % columns)
    rows = [panels[i : i + columns] for i in range(0, len(panels), columns)]
    save_image(path, np.concatenate([_beside(row) for row in rows]))


def similarity_maps(
    model,
    dataset,
    path: str | pathlib.Path,
    rows: Sequence[tuple[int, int]],
    width: int = 224,
    rcond: float = RCOND,
) -> None:
    """Write where the pixel features resemble a class's representations.

    A row "image | truth | own | mined" for each pair of an image and a class: the truth
    is red where the class is and black where it is unknown; the others are cosines
    between each pixel's feature and the class representation of the model, and the
    ideal one of this image. The title of each has the cosine that is shown at full
    strength. A model without representations of its own has no such column.

    Args:
        model: a `SemanticSegmenter`.
        dataset: a `SegmentationDataset`, or any sequence of (image, mask) with
            `classes`.
        path: of the picture; the suffix chooses the format.
        rows: (index of an image, train id of a class) from top to bottom.
        width: of each of the pictures, in pixels.
        rcond: as of `ideal_representations`.
    """
    predict = features_and_output(model)
    own = own_representations(model)
    name_of = getattr(dataset, "image_name", "image {}".format)
    pictures = []
    for index, label in rows:
        image, mask = dataset[index]
        features, _ = predict(image)
        ideal = ideal_representations(features, mask, len(dataset.classes), rcond)
        truth = _colours(np.where(mask == label, 1.0, -1.0))
        truth[mask == IGNORE_LABEL] = 0
        name = pathlib.Path(name_of(index)).name
        cells = {name: image, f"truth: {dataset.classes[label]}": truth}
        for title, vectors in (("own", own), ("mined", ideal)):
            if vectors is not None:
                cosines = unit(features) @ unit(vectors[label])  # (h, w)
                largest = abs(cosines).max()
                scaled = cosines / (largest or 1)
                cells[f"{title}, up to ±{largest:.2f}"] = _colours(scaled)
        height = round(image.shape[0] * width / image.shape[1])
        pictures.append(
            _beside([_titled(t, _enlarge(c, height, width)) for t, c in cells.items()])
        )
    save_image(path, np.concatenate(pictures))


def _colours(values):
    """Values -1..1 from blue over grey to red: uint8 (H, W, 3)."""
    stops = np.array([_BLUE, _GREY, _RED])
    channels = [np.interp(values, (-1, 0, 1), stops[:, i]) for i in range(3)]
    return np.rint(np.stack(channels, axis=-1)).astype("uint8")


def _enlarge(picture, height, width):
    from PIL import Image

    return np.asarray(Image.fromarray(picture).resize((width, height), Image.NEAREST))


def _titled(title, picture):
    """The picture with a line of text over it."""
    return np.concatenate([line_of_text(title, picture.shape[1]), picture])


def _beside(pictures):
    """Pictures of one height from left to right, and a gap below."""
    gap = np.full((len(pictures[0]), _GAP, 3), 255, "uint8")
    parts = [part for picture in pictures for part in (gap, picture)][1:]
    row = np.concatenate(parts, axis=1)
    return np.concatenate([row, np.full((_GAP, row.shape[1], 3), 255, "uint8")])
