"""Measures the training pipeline: images a second, and where the time goes.

Photographs of 500x700 are imitated by enlarged demo tiles with noise (JPEGs of about
150 KB); rows are printed and appended to results/data_pipeline.csv.

Example:
    python tools/benchmark_data.py --seconds 10 --machine "2 cores of a Xeon"
"""

import argparse
import csv
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from keras_lrseg.data import (
    SegmentationDataset,
    load_demo,
    save_image,
    save_mask,
    training_pipeline,
)

CROP, BATCH_SIZE, SIZE = (512, 512), 16, (500, 700)
RESULTS = Path(__file__).parents[1] / "results/data_pipeline.csv"
CASES = {
    "full augmentation": {},
    "no colours": {"photometric": False},
    "no colours, no scaling": {"photometric": False, "scale": (1.0, 1.0)},
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=10, help="for each row")
    parser.add_argument("--machine", default=platform.machine(), help="for the table")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        dataset = make_photographs(Path(folder), 64)
        rates = {"reading alone, one thread": reading_rate(dataset, arguments.seconds)}
        for case, options in CASES.items():
            stream = training_pipeline(dataset, CROP, BATCH_SIZE, **options)
            rates[case] = stream_rate(stream, arguments.seconds)
    rows = [
        {
            "case": case,
            "images_per_second": f"{rate:.1f}",
            "cpu_ms_per_image": f"{cost:.1f}",
            "crop": "x".join(map(str, CROP)),
            "cores": os.cpu_count(),
            "machine": arguments.machine,
            "tensorflow": tf.__version__,
        }
        for case, (rate, cost) in rates.items()
    ]
    for row in rows:
        print(
            f"{row['case']:28s} {row['images_per_second']:>8s} images/s "
            f"{row['cpu_ms_per_image']:>8s} ms of one core an image"
        )
    is_new = not RESULTS.exists()
    with RESULTS.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerows(rows)


def make_photographs(folder: Path, number: int) -> SegmentationDataset:
    demo, noise = load_demo("train"), np.random.default_rng(0)
    for i in range(number):
        image, mask = demo[i]
        image = np.asarray(Image.fromarray(image).resize(SIZE[::-1]), np.float32)
        image += noise.normal(0, 8, image.shape)
        mask = np.asarray(Image.fromarray(mask).resize(SIZE[::-1], Image.NEAREST))
        save_image(folder / f"images/{i:03d}.jpg", image.clip(0, 255).astype(np.uint8))
        save_mask(folder / f"masks/{i:03d}.png", mask, demo.palette)
    return SegmentationDataset.from_folders(
        folder / "images", folder / "masks", demo.classes
    )


def reading_rate(dataset: SegmentationDataset, seconds: float) -> tuple[float, float]:
    return measured(lambda i: dataset[i % len(dataset)], 1, seconds)


def stream_rate(stream: tf.data.Dataset, seconds: float) -> tuple[float, float]:
    batches = iter(stream)
    for _ in range(4):  # start-up, and what is prefetched
        next(batches)
    return measured(lambda _: next(batches), BATCH_SIZE, seconds)


def measured(
    step: Callable[[int], object], images: int, seconds: float
) -> tuple[float, float]:
    """Images a second, and milliseconds of one core's time an image.

    The second is the steadier figure where other programs share the cores.
    """
    start, cpu_start, steps = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - start < seconds:
        step(steps)
        steps += 1
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu_start
    return steps * images / wall, 1e3 * cpu / (steps * images)


if __name__ == "__main__":
    main()
