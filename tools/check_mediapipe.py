"""Counts where MediaPipe's ImageSegmenter answers other labels than one would expect.

The files of a model trained on the demo data, 256×256, answer for all validation tiles.
Shares of labels that differ:

    resizing     a tile enlarged to 400×300 that MediaPipe resizes, and that Pillow
                 does; largest confidence masks
    stride       file of logits: the category mask, and the largest confidence mask
    enlarged     file of confidences and a picture of 512×512: the same two
    logits       category mask of the file of logits, and of the file of confidences

Example:
    python tools/check_mediapipe.py demo-output/model.keras
"""

import argparse
import importlib.metadata
import os
import tempfile
from pathlib import Path

import bench
import mediapipe
import numpy as np
from mediapipe.tasks.python import BaseOptions, vision
from PIL import Image

os.environ["KERAS_BACKEND"] = "tensorflow"  # the converter's, whatever trained

SIZE = (256, 256)
LIBRARIES = ("keras", "mediapipe", "ai-edge-litert", "pillow")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", metavar="MODEL.keras")
    parser.add_argument("--out", type=Path, default=bench.RESULTS / "mediapipe.csv")
    arguments = parser.parse_args()

    from keras_lrseg import checkpoints, data

    model = checkpoints.load_model(arguments.model)
    tiles = [Image.fromarray(image) for image, _ in data.load_demo("validation")]
    shares = compare(model, tiles)
    row = {
        **bench.machine(),
        "versions": ", ".join(
            f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES
        ),
        "model": model.name,
        "tiles": len(tiles),
        **{name: f"{share:.4f}" for name, share in shares.items()},
    }
    bench.append_row(arguments.out, row)
    bench.print_table([{key: row[key] for key in ("model", "tiles", *shares)}])


def compare(model, tiles: list[Image.Image]) -> dict[str, float]:
    """Return the mean share of labels that differ, by the name of the comparison."""
    from keras_lrseg import export

    with tempfile.TemporaryDirectory() as folder:
        clients = []
        for output in ("confidence", "logits"):
            path = Path(folder) / f"{output}.tflite"
            export.export_tflite(model, path, SIZE, output)
            clients.append(segmenter(path))
        return {
            name: float(np.mean([differing(*clients, tile) for tile in tiles]))
            for name, differing in COMPARISONS.items()
        }


def segmenter(path: Path) -> vision.ImageSegmenter:
    """MediaPipe's client of a file, asked for all that it can give."""
    options = vision.ImageSegmenterOptions(
        BaseOptions(model_asset_path=str(path)),
        output_confidence_masks=True,
        output_category_mask=True,
    )
    return vision.ImageSegmenter.create_from_options(options)


def segment(client, image: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """The confidences (h, w, K) and the category mask (h, w)."""
    picture = mediapipe.Image(mediapipe.ImageFormat.SRGB, np.asarray(image))
    result = client.segment(picture)
    masks = [mask.numpy_view() for mask in result.confidence_masks]
    shape = (image.height, image.width)
    category = result.category_mask.numpy_view().reshape(shape).copy()
    return np.stack(masks, -1).reshape(*shape, -1), category


def resizing(confidence, logits, tile):
    from keras_lrseg.evaluation import labels_of

    picture = tile.resize((400, 300), Image.Resampling.BICUBIC)
    expected, _ = segment(confidence, picture.resize(SIZE))
    answer, _ = segment(confidence, picture)
    return (answer.argmax(-1) != labels_of(expected[None], (300, 400))).mean()


def stride(confidence, logits, tile):
    masks, category = segment(logits, tile)
    return (masks.argmax(-1) != category).mean()


def enlarged(confidence, logits, tile):
    masks, category = segment(confidence, tile.resize((512, 512)))
    return (masks.argmax(-1) != category).mean()


def of_logits(confidence, logits, tile):
    (_, expected), (_, category) = (segment(c, tile) for c in (confidence, logits))
    return (category != expected).mean()


COMPARISONS = {
    "resizing": resizing,
    "stride": stride,
    "enlarged": enlarged,
    "logits": of_logits,
}


if __name__ == "__main__":
    main()
