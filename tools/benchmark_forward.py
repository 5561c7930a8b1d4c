"""Measures LRFormer's forward pass on a CPU, beside a plain PyTorch peer.

Batch 1, float32, seeded random weights, 150 classes, logits at the decoder's stride
(LRFormer 8, SegFormer 4); the models are built for images of unknown size. Contenders:

    tensorflow      keras_lrseg in a tf.function
    jax             keras_lrseg under jax.jit
    torch           keras_lrseg, eager, in inference mode
    plain           the same architecture in plain PyTorch (tools/plain_torch)
    segformer       transformers' SegFormer-B1 beside LRFormerT, B2 beside LRFormerS
    torch-compile   keras_lrseg with torch.export, then torch.compile; needs a C++
                    compiler
    plain-compile   the plain peer with torch.compile

Each contender is a process of its own that runs once on request, so that rounds are
interleaved: A B C A B C. What disturbs the machine for a while then touches them all,
and the ratios of the medians to `plain` stay fair. Even so it wants a quiet machine:
PyTorch's threads wait actively, so it alone becomes many times slower when another
program takes one of their cores. A model and size make a group; its rows are added to
the CSV when its rounds are over, so an interrupted run keeps the groups before. GMAC
are those of convolutions and matrix products.

Example:
    python tools/benchmark_forward.py --compile
    python tools/benchmark_forward.py --models LRFormerT --sizes 512 --rounds 3
"""

import argparse
import functools
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import bench
import numpy as np

BACKENDS = {
    "tensorflow": "tensorflow",
    "jax": "jax",
    "torch": "torch",
    "plain": "torch",
    "segformer": "torch",
    "torch-compile": "torch",
    "plain-compile": "torch",
}
COMPILED = ("torch-compile", "plain-compile")
GMAC = {
    ("LRFormerT", 512): 16.55,
    ("LRFormerT", 1024): 58.3,
    ("LRFormerS", 512): 39.72,
    ("LRFormerS", 1024): 142.6,
}
# The SegFormer beside an LRFormer: name, depths, width of the decoder.
SEGFORMERS = {
    "LRFormerT": ("SegFormer-B1", (2, 2, 2, 2), 256),
    "LRFormerS": ("SegFormer-B2", (3, 4, 6, 3), 768),
}
NUM_CLASSES = 150
PAUSE = 0.2  # seconds in which the threads of the contender before stop spinning


def main() -> None:
    arguments = parse_arguments()
    if arguments.worker:
        model, size = arguments.models[0], arguments.sizes[0]
        bench.serve(answers(arguments.worker, model, size))
        return
    bench.warn_if_busy()
    for model in arguments.models:
        for size in arguments.sizes:
            rows = measure(model, size, arguments)
            for row in rows:
                bench.append_row(arguments.out, row)
            show(rows)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    models = list(SEGFORMERS)
    add("--models", nargs="+", choices=models, default=models, metavar="MODEL")
    add("--sizes", nargs="+", type=int, default=[512, 1024], help="512 is 512×512")
    add(
        "--contenders",
        nargs="+",
        choices=list(BACKENDS),
        default=[name for name in BACKENDS if name not in COMPILED],
        metavar="NAME",
        help="default: all but the compiled ones",
    )
    add("--compile", action="store_true", help="the two compiled ones too")
    add("--rounds", type=int, default=9)
    add("--warm-ups", type=int, default=2, help="rounds before, not counted")
    add("--threads", type=int, default=2)
    add("--out", type=Path, default=bench.RESULTS / "forward_lrformer.csv")
    add("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rounds < 1 or arguments.warm_ups < 1:
        parser.error("--rounds and --warm-ups expect at least 1")
    if arguments.compile:
        chosen = dict.fromkeys((*arguments.contenders, *COMPILED))
        arguments.contenders = list(chosen)
    return arguments


# === The measuring process ===


def measure(model: str, size: int, arguments: argparse.Namespace) -> list[dict]:
    """Run the rounds of one model at one size; return a row for each contender."""
    print(f"\n{model} {size}×{size}", flush=True)
    with ExitStack() as stack:
        workers, versions = {}, {}
        for name in arguments.contenders:
            command = [__file__, "--worker", name]
            command += ["--models", model, "--sizes", str(size)]
            worker = bench.Worker(command, BACKENDS[name], arguments.threads)
            workers[name] = stack.enter_context(worker)
            answer = ask(workers, name)
            if answer:
                versions[name] = answer["versions"]
        seconds = {name: [] for name in workers}
        for i in range(arguments.warm_ups + arguments.rounds):
            warm_up = i < arguments.warm_ups
            label = "warm-up" if warm_up else f"round {i - arguments.warm_ups + 1}"
            print(f"  {label}:", end="", flush=True)
            for name in list(workers):
                time.sleep(PAUSE)
                answer = ask(workers, name)
                if answer:
                    seconds[name].append(answer["seconds"])
                    print(f" {name} {1e3 * seconds[name][-1]:.0f}", end="", flush=True)
            print(" ms", flush=True)
    finished = {name: seconds[name] for name in workers}
    return [
        make_row(name, model, size, finished, versions[name], arguments)
        for name in finished
    ]


def ask(workers: dict[str, bench.Worker], name: str) -> dict | None:
    """The next answer of a worker; one that fails is reported and dropped."""
    try:
        return workers[name].ask()
    except bench.WorkerFailed as error:
        print(f"  {name} failed: {error}", flush=True)
        del workers[name]
        return None


def make_row(name, model, size, seconds, versions, arguments) -> dict:
    """A row of the CSV, from the seconds of all contenders, warm-ups included."""
    counted = {key: times[arguments.warm_ups :] for key, times in seconds.items()}
    median = statistics.median(counted[name])
    plain, gmac = counted.get("plain"), GMAC.get((model, size))
    is_segformer = name == "segformer"
    return {
        **bench.machine(),
        "contender": name,
        "backend": BACKENDS[name],
        "versions": versions,
        "model": SEGFORMERS[model][0] if is_segformer else model,
        "height": size,
        "width": size,
        "threads": arguments.threads,
        "rounds": arguments.rounds,
        "median_ms": f"{1e3 * median:.1f}",
        "min_ms": f"{1e3 * min(counted[name]):.1f}",
        "ratio_to_plain": f"{median / statistics.median(plain):.3f}" if plain else "",
        "first_call_s": f"{seconds[name][0]:.2f}",
        "gmac_per_s": f"{gmac / median:.1f}" if gmac and not is_segformer else "",
    }


def show(rows: list[dict]) -> None:
    columns = ("contender", "model", "median_ms", "min_ms", "ratio_to_plain")
    columns += ("first_call_s", "gmac_per_s")
    if rows:
        bench.print_table([{key: row[key] for key in columns} for row in rows])


# === The workers ===


def answers(name: str, model: str, size: int) -> Iterator[dict]:
    """What a contender's worker answers: its versions, then the seconds of each run."""
    random = np.random.default_rng(0)  # as a normalised image
    images = random.standard_normal((1, size, size, 3), "float32")
    kind, _, compiled = name.partition("-")
    run, libraries = MAKERS[kind](model, images, bool(compiled))
    yield {"versions": bench.versions(*libraries)}
    while True:
        start = time.perf_counter()
        logits = run()
        seconds = time.perf_counter() - start
        if not np.isfinite(np.asarray(logits)).all():
            raise FloatingPointError("The logits are not finite")
        yield {"seconds": seconds}


def make_tensorflow(model, images, _):
    import tensorflow as tf

    segmenter, images = keras_segmenter(model), tf.constant(images)
    forward = tf.function(lambda x: segmenter(x, training=False))
    return lambda: forward(images), ("keras", "tensorflow")


def make_jax(model, images, _):
    import jax

    segmenter, images = keras_segmenter(model), jax.numpy.asarray(images)
    state = segmenter.trainable_variables, segmenter.non_trainable_variables
    trainable, others = ([v.value for v in variables] for variables in state)

    @jax.jit
    def forward(trainable, others, x):
        logits, _ = segmenter.stateless_call(trainable, others, x, training=False)
        return logits

    def run():
        return forward(trainable, others, images).block_until_ready()

    return run, ("keras", "jax")


def make_torch(model, images, compiled):
    import torch

    segmenter, images = keras_segmenter(model), torch.from_numpy(images)
    settings = {"training": False}

    @functools.cache  # made in the first run, which pays for it
    def forward():
        if not compiled:
            return segmenter
        # Exported first: of Keras's own code torch.compile makes many small graphs,
        # which are far slower than eager.
        program = torch.export.export(segmenter, (images,), settings, strict=False)
        return torch.compile(program.module())

    return torch_run(lambda x: forward()(x, **settings), images), ("keras", "torch")


def make_plain(model, images, compiled):
    import torch
    from plain_torch.lrformer import lrformer

    torch.manual_seed(0)
    forward = lrformer(model[-1].lower(), NUM_CLASSES).eval()
    if compiled:
        forward = torch.compile(forward)
    return torch_run(forward, channels_first(images)), ("torch",)


def make_segformer(model, images, _):
    import torch
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    _, depths, width = SEGFORMERS[model]
    config = SegformerConfig(
        depths=depths,
        hidden_sizes=(64, 128, 320, 512),
        decoder_hidden_size=width,
        num_labels=NUM_CLASSES,
    )
    torch.manual_seed(0)
    segmenter = SegformerForSemanticSegmentation(config).eval()
    run = torch_run(lambda x: segmenter(x).logits, channels_first(images))
    return run, ("transformers", "torch")


def keras_segmenter(model):
    import keras

    import keras_lrseg

    keras.utils.set_random_seed(0)
    return getattr(keras_lrseg, model)(
        num_classes=NUM_CLASSES, include_preprocessing=False, upsample=False
    )


def channels_first(images):
    import torch

    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()  # (B, 3, H, W)


def torch_run(forward, images):
    import torch

    return torch.inference_mode()(lambda: forward(images))


MAKERS = {
    "tensorflow": make_tensorflow,
    "jax": make_jax,
    "torch": make_torch,
    "plain": make_plain,
    "segformer": make_segformer,
}


if __name__ == "__main__":
    main()
