"""Measures the Offset Learning layer alone on a CPU, beside its plain equations.

Batch 1, float32, features of 256 channels on 128×128 pixels (an image of 512×512 at
stride 4). Contenders, each with features in the layout it prefers:

    tensorflow   keras_lrseg in a tf.function
    jax          keras_lrseg under jax.jit
    torch        keras_lrseg, eager
    plain        the equations as the paper writes them, in plain PyTorch

`forward` is a forward pass without gradients, `step` one with the gradients of the
features and of all weights. Rounds are interleaved, see `bench.Rounds`; the rows of a
number of classes are added to the CSV when its rounds are over.

Example:
    python tools/benchmark_offset_learning.py
    python tools/benchmark_offset_learning.py --classes 19 --rounds 3
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import bench
import numpy as np

BACKENDS = {
    "tensorflow": "tensorflow",
    "jax": "jax",
    "torch": "torch",
    "plain": "torch",
}
SHAPE = (1, 128, 128, 256)


def main() -> None:
    arguments = parse_arguments()
    if arguments.worker:
        bench.serve(answers(arguments.worker, arguments.classes[0]))
        return
    bench.warn_if_busy()
    for classes in arguments.classes:
        rows = measure(classes, arguments)
        for row in rows:
            bench.append_row(arguments.out, row)
        columns = ("contender", "classes", "forward_ms", "forward_ratio_to_plain")
        columns += ("step_ms", "step_ratio_to_plain")
        bench.print_table([{key: row[key] for key in columns} for row in rows])


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--classes", nargs="+", type=int, default=[19, 150])
    add("--contenders", nargs="+", choices=list(BACKENDS), default=list(BACKENDS))
    add("--rounds", type=int, default=15)
    add("--warm-ups", type=int, default=3, help="rounds before, not counted")
    add("--threads", type=int, default=2)
    add("--out", type=Path, default=bench.RESULTS / "offset_learning.csv")
    add("--worker", help=argparse.SUPPRESS)
    return parser.parse_args()


# === The measuring process ===


def measure(classes: int, arguments: argparse.Namespace) -> list[dict]:
    """Run the rounds for one number of classes; return a row for each contender."""
    print(f"\n{classes} classes", flush=True)
    contenders = {
        name: ([__file__, "--classes", str(classes), "--worker", name], BACKENDS[name])
        for name in arguments.contenders
    }
    settings = (arguments.warm_ups, arguments.rounds, arguments.threads)
    rounds = bench.Rounds(contenders, *settings)
    return [
        {
            **bench.machine(),
            "contender": name,
            "backend": BACKENDS[name],
            "versions": rounds.versions[name],
            "classes": classes,
            "channels": SHAPE[3],
            "height": SHAPE[1],
            "width": SHAPE[2],
            "threads": arguments.threads,
            "rounds": arguments.rounds,
            "forward_ms": f"{1e3 * rounds.median(name):.1f}",
            "forward_ratio_to_plain": rounds.ratio(name),
            "step_ms": f"{1e3 * rounds.median(name, 'step'):.1f}",
            "step_ratio_to_plain": rounds.ratio(name, "step"),
        }
        for name in rounds.answers
    ]


# === The workers ===


def answers(name: str, classes: int) -> Iterator[dict]:
    """What a contender's worker answers: its versions, then the seconds of each run."""
    x = np.random.default_rng(0).standard_normal(SHAPE, "float32")
    forward, step, libraries = MAKERS[name](classes, x)
    yield {"versions": bench.versions(*libraries)}
    while True:
        yield {"seconds": bench.timed(forward), "step": bench.timed(step)}


def make_tensorflow(classes, x):
    import tensorflow as tf

    layer, x = keras_layer(classes), tf.constant(x)
    weights = [w.value for w in layer.trainable_variables]

    @tf.function
    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_mean(layer(x) ** 2)
        return tape.gradient(loss, [x, *weights])

    forward = tf.function(layer)
    libraries = ("keras", "tensorflow")
    return lambda: forward(x), lambda: step(x)[0], libraries


def make_jax(classes, x):
    import jax

    layer, x = keras_layer(classes), jax.numpy.asarray(x)
    weights = [w.value for w in layer.trainable_variables]

    def forward(weights, x):
        return layer.stateless_call(weights, [], x)[0]

    def loss(weights, x):
        return (forward(weights, x) ** 2).mean()

    forward, step = jax.jit(forward), jax.jit(jax.grad(loss, (0, 1)))
    libraries = ("keras", "jax")
    return (
        lambda: forward(weights, x).block_until_ready(),
        lambda: jax.block_until_ready(step(weights, x))[1],
        libraries,
    )


def make_torch(classes, x):
    import torch

    return *torch_runs(keras_layer(classes), torch.from_numpy(x)), ("keras", "torch")


def make_plain(classes, x):
    import torch
    from plain_torch.offset_learning import OffsetLearning

    torch.manual_seed(0)
    x = torch.from_numpy(x).permute(0, 3, 1, 2)  # (B, C, H, W), channels-last memory
    return *torch_runs(OffsetLearning(SHAPE[3], classes), x), ("torch",)


def torch_runs(layer, x):
    import torch

    x = x.requires_grad_()

    @torch.inference_mode()
    def forward():
        return layer(x)

    def step():
        inputs = [x, *layer.parameters()]
        return torch.autograd.grad((layer(x) ** 2).mean(), inputs)[0]

    return forward, step


def keras_layer(classes):
    import keras

    from keras_lrseg.layers import OffsetLearning

    keras.utils.set_random_seed(0)
    layer = OffsetLearning(classes)
    layer.build(SHAPE)
    return layer


MAKERS = {
    "tensorflow": make_tensorflow,
    "jax": make_jax,
    "torch": make_torch,
    "plain": make_plain,
}


if __name__ == "__main__":
    main()
