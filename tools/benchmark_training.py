"""Training steps per second and their memory, each backend beside plain PyTorch.

A step is forward, loss, backward and AdamW on a batch that comes from host memory, as
`fit` runs it; `torch-graph` is PyTorch with `jit_compile=True`. The peer is the same
network in plain PyTorch (tools/plain_torch) with automatic mixed precision, eager and
compiled. On a machine with an NVIDIA GPU that is what runs; elsewhere everything runs
on the CPU: use small sizes there, which show what Python costs.

Contenders run in turn, each in a process of its own; the table shows medians. Rows are
added to results/training.csv.

Example:
    python tools/benchmark_training.py --precisions mixed_bfloat16 float32
    python tools/benchmark_training.py --model LRFormerT --precisions float32 \\
        --crop 32 --batch 1 --contenders torch torch-graph plain
"""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import bench
import numpy as np

KERAS = ("tensorflow", "jax", "torch", "torch-graph")
PLAIN = ("plain", "compiled")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
NUM_CLASSES = 150
LEARNING_RATE, WEIGHT_DECAY = 6e-5, 0.01
MIB = 2**20


def main() -> None:
    arguments = parse_arguments()
    if arguments.worker:
        name, precision = arguments.worker
        run = plain_answers if name in PLAIN else keras_answers
        bench.serve(run(name, precision, arguments))
        return
    rows = []
    for precision in arguments.precisions:
        print(f"{arguments.model} {precision}", flush=True)
        rows += measure(precision, arguments)
    for row in rows:
        bench.append_row(arguments.out, row)
    columns = ("contender", "precision", "images_per_s", "ratio_to_plain", "peak_mib")
    if rows:
        bench.print_table([{key: row[key] for key in columns} for row in rows])


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--model", default="LRFormerS", help="an LRFormer; default LRFormerS")
    add("--contenders", nargs="+", choices=KERAS + PLAIN, default=KERAS + PLAIN)
    add("--precisions", nargs="+", choices=PRECISIONS, default=["mixed_bfloat16"])
    add("--crop", type=int, default=512, help="side in pixels")
    add("--batch", type=int, default=16)
    add("--steps", type=int, default=20, help="of a round")
    add("--rounds", type=int, default=5)
    add("--threads", type=int, default=2)
    add("--out", type=Path, default=bench.RESULTS / "training.csv")
    add("--worker", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def measure(precision: str, arguments: argparse.Namespace) -> list[dict]:
    """Rows of the CSV, one for each contender that ran."""
    gpu = bench.gpu_model()
    options = []
    for option in ("model", "crop", "batch", "steps"):
        options += [f"--{option}", str(getattr(arguments, option))]
    contenders = {}
    for name in arguments.contenders:
        command = [__file__, *options, "--worker", name, precision]
        backend = "torch" if name in PLAIN else name.removesuffix("-graph")
        contenders[name] = (command, backend)
    rounds = bench.Rounds(
        contenders, 1, arguments.rounds, arguments.threads, gpu=bool(gpu)
    )
    machine = bench.machine()
    if gpu:
        machine["hardware"] = f"{gpu}; {machine['hardware']}"
    rows = []
    for name, answers in rounds.answers.items():
        step = rounds.median(name) / arguments.steps
        rows.append(
            {
                **machine,
                "contender": name,
                "versions": rounds.versions[name],
                "model": arguments.model,
                "crop": arguments.crop,
                "batch": arguments.batch,
                "precision": precision,
                "rounds": arguments.rounds,
                "step_ms": f"{1e3 * step:.1f}",
                "images_per_s": f"{arguments.batch / step:.1f}",
                # of times: below 1 is faster than plain PyTorch
                "ratio_to_plain": rounds.ratio(name),
                "peak_mib": answers[-1]["peak_mib"],
            }
        )
    return rows


def batches(arguments: argparse.Namespace) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The same batch again and again, as a data pipeline gives it."""
    random = np.random.default_rng(0)
    shape = (arguments.batch, arguments.crop, arguments.crop)
    images = random.integers(0, 256, (*shape, 3), dtype="uint8")
    masks = random.integers(0, NUM_CLASSES, shape, dtype="uint8")
    while True:
        yield images, masks


def keras_answers(
    name: str, precision: str, arguments: argparse.Namespace
) -> Iterator[dict]:
    import keras

    import keras_lrseg
    from keras_lrseg.training import SegmentationCrossEntropy

    backend = keras.config.backend()
    yield {"versions": bench.versions("keras", backend)}
    keras.utils.set_random_seed(0)
    model = getattr(keras_lrseg, arguments.model)(
        NUM_CLASSES, drop_path_rate=0.0, dtype=precision
    )
    optimizer = keras.optimizers.AdamW(LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    jit_compile = True if name.endswith("-graph") else "auto"
    model.compile(optimizer, SegmentationCrossEntropy(), jit_compile=jit_compile)
    stream = batches(arguments)
    while True:
        start = time.perf_counter()
        history = model.fit(stream, steps_per_epoch=arguments.steps, verbose=0)
        seconds = time.perf_counter() - start
        check(history.history["loss"][0])
        yield {"seconds": seconds, "peak_mib": peak_mib(backend)}


def plain_answers(
    name: str, precision: str, arguments: argparse.Namespace
) -> Iterator[dict]:
    import plain_torch.lrformer
    import torch

    yield {"versions": bench.versions("torch")}
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    variant = arguments.model.removeprefix("LRFormer").lower()
    model = plain_torch.lrformer.lrformer(variant, NUM_CLASSES).to(device).train()
    network = torch.compile(model) if name == "compiled" else model
    optimizer = torch.optim.AdamW(
        model.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY
    )
    half = {"mixed_bfloat16": torch.bfloat16, "mixed_float16": torch.float16}
    scaler = torch.amp.GradScaler(device, enabled=precision == "mixed_float16")
    mean = torch.tensor([123.675, 116.28, 103.53], device=device)[:, None, None]
    std = torch.tensor([58.395, 57.12, 57.375], device=device)[:, None, None]

    def step(images, masks):
        images = torch.from_numpy(images).to(device).permute(0, 3, 1, 2)
        masks = torch.from_numpy(masks).to(device).long()
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, half.get(precision), enabled=precision in half):
            logits = network((images - mean) / std)
        logits = torch.nn.functional.interpolate(
            logits.float(), masks.shape[1:], mode="bilinear"
        )
        loss = torch.nn.functional.cross_entropy(logits, masks, ignore_index=255)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        return loss

    stream = batches(arguments)
    while True:
        start = time.perf_counter()
        for _ in range(arguments.steps):
            loss = step(*next(stream))
        check(float(loss))  # waits for the device
        seconds = time.perf_counter() - start
        yield {"seconds": seconds, "peak_mib": peak_mib("torch")}


def check(loss: float) -> None:
    if not np.isfinite(loss):
        raise FloatingPointError(f"The loss is {loss}")


def peak_mib(backend: str) -> int:
    """MiB of the GPU at the peak; of the process where there is no GPU."""
    peak = None
    if backend == "torch":
        import torch

        if torch.cuda.is_available():
            peak = torch.cuda.max_memory_allocated()
    elif backend == "jax":
        import jax

        peak = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    else:
        import tensorflow as tf

        if tf.config.list_physical_devices("GPU"):
            peak = tf.config.experimental.get_memory_info("GPU:0")["peak"]
    if peak is None:
        peak = bench.kernel_bytes("/proc/self/status", "VmHWM")
    return round(peak / MIB)


if __name__ == "__main__":
    main()
