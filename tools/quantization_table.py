"""Size, score and speed of models as TFLite files at every precision.

Models trained on the demo data are exported with logits, calibrated on its training
tiles for int8, and run in LiteRT. The mIoU is that of the validation tiles, the logits
at the decoder's stride resized bilinearly to full size; the agreement is the share of
their pixels whose label is the float32 file's. Latencies are medians of interleaved
rounds, each file in a process of its own, see `bench.Rounds`.

`--sweep` shows instead, in results/quantization_sweep.csv, what int8 breaks: every
operator in 8 bits, then all but those of one kind, each kind in turn.

Example:
    python tools/quantization_table.py demo-output/model.keras
    python tools/quantization_table.py lrformer.keras offseg.keras --rounds 5 \\
        --out /tmp/try.csv
    python tools/quantization_table.py lrformer.keras offseg.keras --sweep
"""

import argparse
import importlib.metadata
import os
import tempfile
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from unittest import mock

import bench
import numpy as np

os.environ["KERAS_BACKEND"] = "tensorflow"  # the converter's, whatever trained

THREADS = (1, 2)
LIBRARIES = ("keras", "tensorflow", "ai-edge-litert", "ai-edge-quantizer")


def main() -> None:
    arguments = parse_arguments()
    if arguments.worker:
        bench.serve(answers(arguments.models[0], arguments.worker))
        return
    bench.warn_if_busy()
    name, measure = ("_sweep", sweep) if arguments.sweep else ("", table)
    out = arguments.out or bench.RESULTS / f"quantization{name}.csv"
    for path in arguments.models:
        rows = measure(path, arguments)
        for row in rows:
            bench.append_row(out, row)
        hidden = (*bench.machine(), "versions", "classes", "height", "width")
        bench.print_table(
            [{k: v for k, v in row.items() if k not in hidden} for row in rows]
        )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("models", nargs="+", type=Path, metavar="MODEL.keras")
    add("--sweep", action="store_true", help="keep each kind of operator in float32")
    add("--calibration", type=int, default=31, help="number of training tiles")
    add("--rounds", type=int, default=25)
    add("--warm-ups", type=int, default=3, help="rounds before, not counted")
    add("--out", type=Path, help="CSV file that the rows are added to")
    add("--worker", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


# === The table ===


def table(path: Path, arguments: argparse.Namespace) -> list[dict]:
    """Return a row for each precision of one model."""
    from keras_lrseg import checkpoints, data
    from keras_lrseg.export.quantize import PRECISIONS

    model, validation = checkpoints.load_model(path), data.load_demo("validation")
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / f"{name}.tflite" for name in PRECISIONS}
        for name, file in files.items():
            export(model, file, name, arguments)
        labels = {
            name: labels_of(file.read_bytes(), validation)
            for name, file in files.items()
        }
        times = [latencies(files, threads, arguments) for threads in THREADS]
        sizes = {name: file.stat().st_size for name, file in files.items()}
    return [
        {
            **description(model, arguments),
            "precision": name,
            "rounds": arguments.rounds,
            **scores(sizes[name], labels[name], labels["float32"], validation),
            **{
                f"ms_{threads}_threads": f"{milliseconds[name]:.1f}"
                for threads, milliseconds in zip(THREADS, times, strict=True)
            },
        }
        for name in PRECISIONS
    ]


def latencies(files: dict[str, Path], threads: int, arguments) -> dict[str, float]:
    """Milliseconds of one image for each file, all measured in turn."""
    print(f"  {threads} threads", flush=True)
    contenders = {
        name: ([__file__, str(file), "--worker", str(threads)], "tensorflow")
        for name, file in files.items()
    }
    rounds = bench.Rounds(contenders, arguments.warm_ups, arguments.rounds, threads)
    return {name: 1e3 * rounds.median(name) for name in files}


# === The sweep ===


def sweep(path: Path, arguments: argparse.Namespace) -> list[dict]:
    """Return a row for each kind of operator that is kept in float32."""
    from keras_lrseg import checkpoints, data
    from keras_lrseg.export import flatbuffer, quantize

    model, validation = checkpoints.load_model(path), data.load_demo("validation")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.tflite"
        export(model, file, "float32", arguments)
        content = file.read_bytes()
    expected = labels_of(content, validation)
    ranges = quantize._ranges(content, calibration_images(arguments.calibration))
    kinds = {kind for _, kind in flatbuffer.operators(flatbuffer.read(content))}
    rows = []
    for kept in ("all", "none", *sorted(kinds)):
        quantised = content
        if kept != "all":
            with (
                mock.patch.object(quantize, "KEPT", (*quantize.KEPT, kept)),
                mock.patch.object(quantize, "LONGEST_SOFTMAX", np.inf),
                # A copy each: the quantiser writes into what it is given.
                mock.patch.object(
                    quantize, "_ranges", side_effect=lambda *_: deepcopy(ranges)
                ),
            ):
                quantised = quantize.quantize(content, "int8", [None])
        labels = labels_of(quantised, validation)
        row = {**description(model, arguments), "kept_float32": kept}
        row |= scores(len(quantised), labels, expected, validation)
        print(f"  {kept}: mIoU {row['miou']}", flush=True)
        rows.append(row)
    return rows


# === What both share ===


def export(model, file: Path, precision: str, arguments) -> None:
    """Write a file of the tiles' size with logits, and say what it is."""
    from keras_lrseg.export import export_tflite

    images = calibration_images(arguments.calibration)
    size = images[0].shape[:2]
    report = export_tflite(model, file, size, precision=precision, calibration=images)
    print(f"{model.name}, {precision}: {report.size_mib:.2f} MiB", flush=True)


def calibration_images(count: int) -> list[np.ndarray]:
    """Training tiles, uint8 (H, W, 3), spread over all of them."""
    from keras_lrseg import data

    dataset = data.load_demo("train")
    indices = np.linspace(0, len(dataset) - 1, count).astype(int)
    return [dataset[int(i)][0] for i in indices]


def labels_of(content: bytes, dataset) -> list[np.ndarray]:
    """The label map of each image, uint8 (H, W)."""
    from keras_lrseg import evaluation

    run = runner(content, threads=2)
    return [evaluation.labels_of(run(image), mask.shape) for image, mask in dataset]


def scores(size: int, labels: list, expected: list, dataset) -> dict[str, str]:
    """The columns of a file's size, mIoU and agreement."""
    from keras_lrseg import evaluation

    confusion = sum(
        evaluation.confusion_matrix(mask, predicted, dataset.num_classes)
        for (_, mask), predicted in zip(dataset, labels, strict=True)
    )
    return {
        "size_mib": f"{size / 2**20:.2f}",
        "miou": f"{evaluation.Scores(confusion, dataset.classes).miou:.4f}",
        "agreement": f"{np.mean(np.equal(labels, expected)):.4f}",
    }


def description(model, arguments) -> dict:
    """The columns that say what was measured, where."""
    versions = (f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES)
    height, width, _ = calibration_images(1)[0].shape
    return {
        **bench.machine(),
        "versions": ", ".join(versions),
        "model": model.name,
        "classes": model.num_classes,
        "height": height,
        "width": width,
        "calibration": arguments.calibration,
    }


# === The workers ===


def answers(file: Path, threads: int) -> Iterator[dict]:
    """What a worker answers: its versions, then the seconds of each run."""
    run = runner(file.read_bytes(), threads)
    image = np.random.default_rng(0).integers(0, 256, (256, 256, 3), "uint8")
    yield {"versions": bench.versions("ai_edge_litert")}
    while True:
        yield {"seconds": bench.timed(lambda: run(image))}


def runner(content: bytes, threads: int):
    """A function from an image, uint8 (H, W, 3), to the output of a TFLite file."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content, num_threads=threads)
    interpreter.allocate_tensors()
    (taken,) = interpreter.get_input_details()
    (given,) = interpreter.get_output_details()

    def run(image):
        interpreter.set_tensor(taken["index"], image[None])
        interpreter.invoke()
        return interpreter.get_tensor(given["index"])

    return run


if __name__ == "__main__":
    main()
