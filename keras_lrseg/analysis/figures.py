"""Pictures of results."""

import csv
import pathlib
from collections.abc import Sequence

import numpy as np

from keras_lrseg.data import (
    SegmentationDataset,
    atomic_path,
    colour_labels,
    save_image,
)
from keras_lrseg.evaluation import TestSettings, predict_labels

MAX_ASPECT = 4  # height of a picture by its width
_GAP = 6  # pixels between pictures
_LEGEND = 24  # pixels of the line of class names


def contact_sheet(
    model,
    dataset: SegmentationDataset,
    path: str | pathlib.Path,
    indices: Sequence[int],
    settings: TestSettings | None = None,
    width: int = 256,
    captions: Sequence[str] | None = None,
) -> None:
    """Write the picture of `contact_picture` to a file.

    Args:
        path: of the picture; the suffix chooses the format. The others are those of
            `contact_picture`.
    """
    picture = contact_picture(model, dataset, indices, settings, width, captions)
    save_image(path, picture)


def contact_picture(
    model,
    dataset: SegmentationDataset,
    indices: Sequence[int],
    settings: TestSettings | None = None,
    width: int = 256,
    captions: Sequence[str] | None = None,
) -> np.ndarray:
    """Return a picture with a row "image | truth | prediction" for each index.

    Args:
        model: a segmenter.
        dataset: where the images and their colours come from.
        indices: the rows, from top to bottom.
        settings: how the images are seen; None: whole, at their own size.
        width: of each of the three pictures, in pixels.
        captions: a line over each row; None: the names of the images.

    Returns:
        uint8 (H, 3 · width + gaps, 3), with the class names at the bottom.
    """
    from PIL import Image

    if captions is None:
        captions = [pathlib.Path(dataset.image_name(i)).name for i in indices]
    rows = []
    for i, caption in zip(indices, captions, strict=True):
        image, mask = dataset[i]
        labels = predict_labels(model, image, settings)
        maps = (colour_labels(x, dataset.palette) for x in (mask, labels))
        height = round(image.shape[0] * width / image.shape[1])
        height = min(max(height, 1), MAX_ASPECT * width)  # of slivers, squeezed
        cells = [
            np.asarray(Image.fromarray(x).resize((width, height), Image.NEAREST))
            for x in (image, *maps)
        ]
        gap = np.full((height, _GAP, 3), 255, "uint8")
        row = np.concatenate([cells[0], gap, cells[1], gap, cells[2]], axis=1)
        below = np.full((_GAP, row.shape[1], 3), 255, "uint8")
        rows += [line_of_text(caption, row.shape[1]), row, below]
    rows.append(_legend(dataset, rows[0].shape[1]))
    return np.concatenate(rows)


def training_curve(log: str | pathlib.Path, path: str | pathlib.Path) -> None:
    """Draw the loss of each epoch of a run, and the validation's scores.

    Args:
        log: `log.csv` of a run.
        path: of the picture, a PNG.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    with open(log) as file:
        rows = list(csv.DictReader(file))
    epochs = [int(row["epoch"]) + 1 for row in rows]  # as Keras counts aloud
    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.subplots()
    # A run that was ended while it scored an epoch has no loss of it.
    losses = [float(row.get("loss") or "nan") for row in rows]
    axes.plot(epochs, losses, "o-", color="tab:blue", markersize=5)
    axes.set_xlim(epochs[0] - 0.5, epochs[-1] + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("epoch")
    axes.set_ylabel("training loss", color="tab:blue")
    for name in (name for name in rows[-1] if name.startswith("val_")):
        # An epoch has none if the run was resumed without validation.
        scores = [float(row[name] or "nan") for row in rows]
        other = axes.twinx()
        other.plot(epochs, scores, "x--", color="tab:orange", markersize=7)
        other.set_ylabel(name, color="tab:orange")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def line_of_text(text: str, width: int) -> np.ndarray:
    """Return a white line with a text, uint8 (20, width, 3)."""
    from PIL import Image, ImageDraw, ImageFont

    picture = Image.new("RGB", (width, 20), "white")
    ImageDraw.Draw(picture).text(
        (4, 3), text, fill="black", font=ImageFont.load_default(12)
    )
    return np.asarray(picture)


def _legend(dataset, width):
    """Class names in their colours, as many lines as they need."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(13)
    places, x, y = [], _GAP, 0
    for name in dataset.classes:
        length = int(font.getlength(name)) + _LEGEND + _GAP
        if x + length > width and x > _GAP:
            x, y = _GAP, y + _LEGEND
        places.append((x, y))
        x += length
    picture = Image.new("RGB", (width, y + _LEGEND), "white")
    draw = ImageDraw.Draw(picture)
    for (x, y), name, colour in zip(
        places, dataset.classes, dataset.palette, strict=True
    ):
        draw.rectangle((x, y + 6, x + 12, y + 18), fill=tuple(map(int, colour)))
        draw.text((x + 17, y + 4), name, fill="black", font=font)
    return np.asarray(picture)
