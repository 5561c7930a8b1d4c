"""Measures the memory that one training step takes, by image size.

Of LRFormer-S and its peer, SegFormer-B2 with a decoder of 768 channels (LRFormer's
Table 12, which lists the attention's multiply-accumulates; a column here).

Batch 1, float32, 150 classes, AdamW, `SegmentationCrossEntropy`, the default compile
settings of Keras (XLA on TensorFlow and JAX), on a CPU under Linux. Each measurement is
a process of its own that calls `train_on_batch` twice: the first step compiles, for
which XLA takes 1 to 3 GiB whatever the size, the second is the one to compare. Columns:

    built_mib        resident memory when the model is built and compiled
    first_peak_mib   largest resident memory until the end of the first step
    second_peak_mib  largest resident memory during the second step
    step_mib         second_peak_mib - built_mib: activations, gradients, moments, and
                     with XLA about 1 GiB of compiled code
    memory_ratio     step_mib to that of the first size
    pixels_ratio     pixels to those of the first size
    mib_per_mpixel   growth of the second peak from the first size on, in MiB for a
                     million pixels more: what is there at any size cancels out, and
                     memory that is linear in the pixels has the same figure throughout
    first_step_s, second_step_s    seconds

A process that runs out of memory gives a row that says so. It is stopped while there is
still `--reserve` GiB left for the other programs. Each row is added to the CSV at once.
At the end a picture of the newest rows is drawn beside it.

Example:
    python tools/benchmark_memory.py
    python tools/benchmark_memory.py --backends jax --sizes 512 1024
"""

import argparse
import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import bench
import numpy as np

BACKENDS = ("tensorflow", "jax", "torch")
MODELS = {"LRFormerS": {}, "SegFormerB2": {"decoder_channels": 768}}
NUM_CLASSES = 150
GIB = 2**30


def main() -> None:
    arguments = parse_arguments()
    if arguments.worker:
        bench.serve(answers(arguments.worker, arguments.models[0], arguments.sizes[0]))
        return
    bench.warn_if_busy()
    rows = []
    for backend, model in itertools.product(arguments.backends, arguments.models):
        first = None
        for size in arguments.sizes:
            print(f"{backend} {model} {size}×{size} ...", flush=True)
            try:
                row = measure(backend, model, size, first, arguments)
            except bench.WorkerFailed as error:
                print(f"  failed: {error}", flush=True)
                continue
            first = first or row
            rows.append(row)
            bench.append_row(arguments.out, row)
    columns = ("backend", "model", "height", "status", "built_mib", "first_peak_mib")
    columns += ("second_peak_mib", "step_mib", "memory_ratio", "pixels_ratio")
    columns += ("mib_per_mpixel", "second_step_s")
    if rows:
        bench.print_table([{key: row.get(key, "") for key in columns} for row in rows])
        draw(bench.read_csv(arguments.out), arguments.out.with_suffix(".png"))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--models", nargs="+", choices=MODELS, default=list(MODELS))
    add("--backends", nargs="+", choices=BACKENDS, default=BACKENDS)
    add("--sizes", nargs="+", type=int, default=[512, 1024, 1536])
    add("--threads", type=int, default=2)
    add("--reserve", type=float, default=1, help="GiB left to others; default 1")
    add("--out", type=Path, default=bench.RESULTS / "memory.csv")
    add("--worker", help=argparse.SUPPRESS)
    return parser.parse_args()


# === The measuring process ===


def measure(backend, model, size, first, arguments) -> dict:
    """A row of the CSV: one process, two training steps.

    Args:
        first: the row of the same backend's and model's first size, or None.
    """
    row = {
        **bench.machine(),
        "memory_gib": f"{bench.total_memory() / GIB:.1f}",
        "backend": backend,
        "versions": "",
        "model": model,
        "height": size,
        "width": size,
        "threads": arguments.threads,
        "status": "ok",
    }
    command = [__file__, "--worker", backend]
    command += ["--models", model, "--sizes", str(size)]
    with bench.Worker(command, backend, arguments.threads) as worker:
        try:
            for _ in range(3):  # built, first step, second step
                row.update(worker.ask(reserve=int(arguments.reserve * GIB)))
        except bench.WorkerFailed as error:
            if not error.out_of_memory:
                raise
            row["status"] = "out of memory"
            print(f"  out of memory: {error}", flush=True)
    row.update(growth(row, first or row))
    return row


def growth(row: dict, first: dict) -> dict[str, str]:
    """The columns that compare a size with the first one, as far as both were run."""
    pixels, first_pixels = (r["height"] * r["width"] for r in (row, first))
    columns = {"pixels_ratio": f"{pixels / first_pixels:.2f}"}
    if "step_mib" in row and "step_mib" in first:
        columns["memory_ratio"] = f"{row['step_mib'] / first['step_mib']:.2f}"
        if pixels != first_pixels:
            grown = row["second_peak_mib"] - first["second_peak_mib"]
            slope = 1e6 * grown / (pixels - first_pixels)
            columns["mib_per_mpixel"] = f"{slope:.0f}"
    return columns


def draw(rows: list[dict], path: Path) -> None:
    """Draw memory and attention FLOPs over the size, a line for model and backend."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
    columns = {"second_peak_mib": 2**10, "attention_flops": 10**9}
    for panel, (column, unit) in zip(panels, columns.items(), strict=True):
        for model, colour in zip(MODELS, ("tab:blue", "tab:orange"), strict=True):
            for backend, style in zip(BACKENDS, ("o-", "s--", "^:"), strict=True):
                line = {
                    int(row["height"]): int(row[column]) / unit
                    for row in rows
                    if (row["model"], row["backend"]) == (model, backend)
                    and row.get(column)
                }
                if line:
                    label = f"{model}, {backend}"
                    panel.plot(
                        *zip(*sorted(line.items()), strict=True),
                        style,
                        color=colour,
                        label=label,
                    )
        panel.set_ylim(0)
        panel.set_xlabel("side of the image, pixels")
    panels[0].set_ylabel("GiB at the peak of a training step")
    panels[1].set_ylabel("attention, G multiply-accumulates")
    for panel in panels:
        panel.legend(fontsize=7, handlelength=4)
    with bench.atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)


# === The worker ===


def answers(backend: str, model: str, size: int) -> Iterator[dict]:
    """What a worker answers: columns of the row, as they become known."""
    # Of two processes the system then ends this one first.
    Path("/proc/self/oom_score_adj").write_text("1000")
    import keras

    import keras_lrseg
    from keras_lrseg.analysis import profile
    from keras_lrseg.training import SegmentationCrossEntropy

    keras.utils.set_random_seed(0)
    make = getattr(keras_lrseg, model)
    segmenter = make(num_classes=NUM_CLASSES, **MODELS[model])
    segmenter.compile(
        optimizer=keras.optimizers.AdamW(6e-5, weight_decay=0.01),
        loss=SegmentationCrossEntropy(),
    )
    random = np.random.default_rng(0)
    images = random.uniform(0, 255, (1, size, size, 3)).astype("float32")
    labels = random.integers(0, NUM_CLASSES, (1, size, size), dtype="int32")
    built = bench.memory("VmRSS")
    yield {
        "versions": bench.versions("keras", backend),
        "built_mib": built,
        "attention_flops": profile(segmenter, (size, size)).attention_flops,
    }
    seconds = step(segmenter, images, labels)
    yield {"first_peak_mib": bench.memory("VmHWM"), "first_step_s": f"{seconds:.1f}"}
    bench.forget_peak()
    seconds = step(segmenter, images, labels)
    peak = bench.memory("VmHWM")
    yield {
        "second_peak_mib": peak,
        "step_mib": peak - built,
        "second_step_s": f"{seconds:.1f}",
    }


def step(model, images, labels) -> float:
    """Seconds of one training step."""
    start = time.perf_counter()
    loss = model.train_on_batch(images, labels)
    if not np.isfinite(loss):
        raise FloatingPointError(f"The loss is {loss}")
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
