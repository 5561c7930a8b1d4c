"""Time of counting one prediction in MeanIoU beside the forward pass that made it.

    python tools/benchmark_metric.py

LRFormer-T, 150 classes, one 512×512 image, float32. Adds rows to
results/metric.csv; the metric should cost less than the model.
"""

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

import bench

SIZE, CLASSES = (512, 512), 150


def worker(backend: str):
    """Answer with the seconds of one forward pass and one update, over and over."""
    import keras
    import numpy as np

    import keras_lrseg
    from keras_lrseg.training import MeanIoU

    model = keras_lrseg.LRFormerT(CLASSES)
    metric = MeanIoU(CLASSES)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (1, *SIZE, 3)).astype("float32")
    mask = rng.integers(0, CLASSES, (1, *SIZE)).astype("int32")
    forward, update = _compiled(backend, model, metric)
    image, mask = keras.ops.convert_to_tensor(image), keras.ops.convert_to_tensor(mask)
    while True:
        start = time.perf_counter()
        logits = forward(image)
        middle = time.perf_counter()
        update(mask, logits)
        yield {
            "forward": middle - start,
            "update": time.perf_counter() - middle,
            "versions": bench.versions("keras", backend),
        }


def _compiled(backend, model, metric):
    """The two functions as `fit` would run them; each returns when it is done."""
    if backend == "tensorflow":
        import tensorflow as tf

        forward = tf.function(lambda x: model(x, training=False))
        update = tf.function(metric.update_state)
        return lambda x: _ready(forward(x)), lambda y, p: _ready(update(y, p))
    if backend == "jax":
        import jax

        state = [
            [v.value for v in variables]
            for variables in (model.trainable_variables, model.non_trainable_variables)
        ]
        counts = [v.value for v in metric.variables]
        forward = jax.jit(lambda x: model.stateless_call(*state, x, training=False)[0])
        update = jax.jit(lambda y, p: metric.stateless_update_state(counts, y, p))
        return (
            lambda x: jax.block_until_ready(forward(x)),
            lambda y, p: jax.block_until_ready(update(y, p)),
        )
    import torch

    return (
        torch.inference_mode()(lambda x: model(x, training=False)),
        torch.inference_mode()(metric.update_state),
    )


def _ready(tensor):
    if tensor is not None:
        tensor.numpy()
    return tensor


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=bench.RESULTS / "metric.csv")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        bench.serve(worker(os.environ["KERAS_BACKEND"]))
        return
    bench.warn_if_busy()
    for backend in ("tensorflow", "jax", "torch"):
        command = [__file__, "--worker", backend]
        with bench.Worker(command, backend, arguments.threads) as process:
            process.ask()  # compiles
            answers = [process.ask() for _ in range(arguments.rounds)]
        forward, update = (
            1e3 * statistics.median(answer[key] for answer in answers)
            for key in ("forward", "update")
        )
        print(f"{backend}: forward {forward:.0f} ms, MeanIoU {update:.0f} ms")
        row = {
            **bench.machine(),
            "backend": backend,
            "versions": answers[0]["versions"],
            "threads": arguments.threads,
            "forward_ms": round(forward, 1),
            "metric_ms": round(update, 1),
            "ratio": round(update / forward, 2),
        }
        bench.append_row(arguments.out, row)


if __name__ == "__main__":
    sys.exit(main())
