"""Measures the training pipelines: images a second, and what bounds them.

ADE20K's photographs (683x512 JPEGs of quality 90), a phone's (4000x3000) and ImageNet's
(500x375) are imitated by enlarged demo tiles with noise. The stages are measured alone,
on images in memory, then the streams, on all cores. Rows are printed and added to
results/data_pipeline.csv.

Example:
    python tools/benchmark_data.py --seconds 10
"""

import argparse
import itertools
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import bench
import numpy as np
import tensorflow as tf
from PIL import Image

from keras_lrseg.data import (
    ClassificationDataset,
    SegmentationDataset,
    classification_pipeline,
    load_demo,
    save_mask,
    training_pipeline,
)
from keras_lrseg.data.augment import augment, distort_colours, to_bytes

CROP, SCENE, PHONE, SHORT_SIDE = (512, 512), (512, 683), (3000, 4000), 512
SMALL_CROP, PHOTOGRAPH = (224, 224), (375, 500)
BATCH_SIZE, NUMBER, QUALITY = 16, 64, 90
STREAMS = {
    "stream, full augmentation": {},
    "stream, no colours": {"photometric": False},
    "stream, no colours, no scaling": {"photometric": False, "scale": (1.0, 1.0)},
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=10, help="for each row")
    parser.add_argument("--out", type=Path, default=bench.RESULTS / "data_pipeline.csv")
    arguments = parser.parse_args()
    bench.warn_if_busy()
    with tempfile.TemporaryDirectory() as folder:
        for case, crop, images, step in cases(Path(folder)):
            rate, cost = measured(step, images, arguments.seconds)
            busy = rate * cost / 1e3 / os.cpu_count()
            print(
                f"{case:34s} {rate:7.1f} images/s {cost:6.1f} ms of one core an image, "
                f"cores {busy:4.0%} busy"
            )
            row = {
                **bench.machine(),
                "versions": bench.versions("tensorflow"),
                "case": case,
                "crop": "x".join(map(str, crop)),
                "images_per_second": f"{rate:.1f}",
                "cpu_ms_per_image": f"{cost:.1f}",
                "cores_busy": f"{busy:.2f}",
            }
            bench.append_row(arguments.out, row)
        step = None  # ends the last stream before its files go
    print(
        "A stream whose cores are all busy is bound by them, at the sum of its stages."
        "\nBusy by less, it waits for files, or other programs have the cores."
    )


Case = tuple[str, tuple[int, int], int, Callable[[int], object]]


def cases(folder: Path) -> Iterator[Case]:
    """What to measure: name, crop, images a step, and the step, given its number."""
    scenes = make_scenes(folder / "scenes", SCENE, NUMBER)
    yield from stages(scenes)
    for case, options in STREAMS.items():
        stream = training_pipeline(
            scenes, CROP, BATCH_SIZE, short_side=SHORT_SIDE, **options
        )
        yield case, CROP, BATCH_SIZE, started(stream)
    photos = make_scenes(folder / "phone", PHONE, 8)
    stream = training_pipeline(photos, CROP, BATCH_SIZE, short_side=SHORT_SIDE)
    yield "stream, photos of 12 megapixels", CROP, BATCH_SIZE, started(stream)
    stream = classification_pipeline(
        make_photographs(folder / "photographs"), SMALL_CROP, BATCH_SIZE
    )
    yield "stream, image classification", SMALL_CROP, BATCH_SIZE, started(stream)


def stages(scenes: SegmentationDataset) -> Iterator[Case]:
    """The parts of the segmentation pipeline, each alone."""
    yield "decode image and mask, whole", CROP, 1, lambda i: scenes[i % NUMBER]
    pairs = [tuple(map(tf.constant, scenes[i])) for i in range(8)]

    @tf.function(autograph=False, reduce_retracing=True)
    def scale_and_crop(image, mask, i):
        return augment(
            lambda first, last: image[first[0] : last[0], first[1] : last[1]],
            mask,
            tf.stack([i, 0]),
            CROP,
            scale=(0.5, 2.0),
            short_side=SHORT_SIDE,
            max_class_share=0.75,
            flip=True,
            photometric=False,
        )

    @tf.function(autograph=False)
    def photometric(image, i):
        uniforms = tf.random.stateless_uniform([9], tf.stack([i, 0]))
        return to_bytes(distort_colours(image, uniforms))

    crops = [
        tf.cast(scale_and_crop(*pair, tf.constant(i))[0], tf.float32)
        for i, pair in enumerate(pairs)
    ]
    yield (
        "window, scale, crop and flip",
        CROP,
        1,
        lambda i: scale_and_crop(*pairs[i % 8], tf.constant(i)),
    )
    photometric(crops[0], tf.constant(0))  # traces
    yield (
        "photometric distortion",
        CROP,
        1,
        lambda i: photometric(crops[i % 8], tf.constant(i)),
    )


def started(stream: tf.data.Dataset) -> Callable[[int], object]:
    batches = iter(stream)
    for _ in range(4):  # start-up, and what is prefetched
        next(batches)
    return lambda _: next(batches)


def make_scenes(
    folder: Path, size: tuple[int, int], number: int
) -> SegmentationDataset:
    demo = load_demo("train")
    for i in range(number):
        save_photograph(folder / f"images/{i:03d}.jpg", demo[i][0], size, seed=i)
        mask = Image.fromarray(demo[i][1]).resize(size[::-1], Image.NEAREST)
        save_mask(folder / f"masks/{i:03d}.png", np.asarray(mask), demo.palette)
    return SegmentationDataset.from_folders(
        folder / "images", folder / "masks", demo.classes
    )


def make_photographs(folder: Path) -> ClassificationDataset:
    demo = load_demo("train")
    for label, i in itertools.product(range(2), range(NUMBER // 2)):
        path = folder / f"class {label}/{i:03d}.jpg"
        save_photograph(path, demo[i][0], PHOTOGRAPH, seed=i)
    return ClassificationDataset.from_folders(folder)


def save_photograph(
    path: Path, tile: np.ndarray, size: tuple[int, int], seed: int
) -> None:
    image = np.asarray(Image.fromarray(tile).resize(size[::-1]), np.float32)
    image = image + np.random.default_rng(seed).normal(0, 4, image.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(path, quality=QUALITY)


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
