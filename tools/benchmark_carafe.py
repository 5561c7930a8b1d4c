"""Measures three forms of CARAFE's reassembly on a CPU.

A run is all that OffSeg's decoder reassembles for an image of 512×512: four calls in
each of its three FreqFusions, batch 1, float32. The forms:

    library  keras_lrseg (layers/carafe.py): products of the matrices of small tiles; on
             JAX shifted maps, which XLA fuses, but for the gradient
    shifts   k² shifted maps, multiplied by their weights and added
    unfold   the neighbours of each pixel side by side, k² copies of the map, and one
             product of matrices for each pixel

each in Keras with every backend, `shifts` and `unfold` in plain PyTorch too ("plain").
`forward` is without gradients, `step` with those of the maps and of the kernels; their
MiB are what resident memory grows by at most (Linux), which says nothing of TensorFlow:
it keeps what it frees. Ratios are to the library with the same backend. Rounds are
interleaved, see `bench.Rounds`; the rows of a model are added to the CSV when its
rounds are over.

Example:
    python tools/benchmark_carafe.py
    python tools/benchmark_carafe.py --models OffSegT --contenders torch --rounds 3
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
FORMS = ("library", "shifts", "unfold")
WIDTHS = {"OffSegT": (32, 32, 64, 128), "OffSegB": (32, 64, 128, 256)}  # of P2 to P5


def main() -> None:
    arguments = parse_arguments()
    if arguments.worker:
        bench.serve(answers(*arguments.worker, arguments.models[0]))
        return
    bench.warn_if_busy()
    for model in arguments.models:
        rows = measure(model, arguments)
        for row in rows:
            bench.append_row(arguments.out, row)
        columns = ("contender", "form", "forward_ms", "forward_ratio", "step_ms")
        columns += ("step_ratio", "forward_mib", "step_mib")
        bench.print_table([{key: row[key] for key in columns} for row in rows])


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--models", nargs="+", choices=list(WIDTHS), default=list(WIDTHS))
    add("--contenders", nargs="+", choices=list(BACKENDS), default=list(BACKENDS))
    add("--rounds", type=int, default=9)
    add("--warm-ups", type=int, default=2, help="rounds before, not counted")
    add("--threads", type=int, default=2)
    add("--out", type=Path, default=bench.RESULTS / "carafe.csv")
    add("--worker", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


# === The measuring process ===


def measure(model: str, arguments: argparse.Namespace) -> list[dict]:
    """Run the rounds for one model; return a row for each contender and form."""
    print(f"\n{model}", flush=True)
    command = [__file__, "--models", model, "--worker"]
    contenders = {
        f"{name} {form}": ([*command, name, form], BACKENDS[name])
        for name in arguments.contenders
        for form in FORMS
        if (name, form) != ("plain", "library")
    }
    settings = (arguments.warm_ups, arguments.rounds, arguments.threads)
    rounds = bench.Rounds(contenders, *settings)
    return [make_row(name, model, rounds, arguments) for name in rounds.answers]


def make_row(name, model, rounds, arguments) -> dict:
    """A row of the CSV."""
    contender, form = name.split()
    library = f"{BACKENDS[contender]} library"
    return {
        **bench.machine(),
        "contender": contender,
        "backend": BACKENDS[contender],
        "versions": rounds.versions[name],
        "model": model,
        "form": form,
        "threads": arguments.threads,
        "rounds": arguments.rounds,
        "forward_ms": f"{1e3 * rounds.median(name):.1f}",
        "forward_ratio": rounds.ratio(name, to=library),
        "step_ms": f"{1e3 * rounds.median(name, 'step'):.1f}",
        "step_ratio": rounds.ratio(name, "step", to=library),
        "forward_mib": round(rounds.median(name, "forward_mib")),
        "step_mib": round(rounds.median(name, "step_mib")),
    }


# === The workers ===


def answers(name: str, form: str, model: str) -> Iterator[dict]:
    """What a worker answers: its versions, then the seconds and MiB of each run."""
    forward, step, libraries = MAKERS[name](form, tensors(WIDTHS[model]))
    yield {"versions": bench.versions(*libraries)}
    forward(), step()  # compiled
    memory = {"forward_mib": growth(forward), "step_mib": growth(step)}
    while True:
        yield {"seconds": bench.timed(forward), "step": bench.timed(step), **memory}


def growth(run) -> int:
    """MiB that this process grows by at most during a run."""
    bench.forget_peak()
    before = bench.memory("VmRSS")
    run()
    return bench.memory("VmHWM") - before


def tensors(widths: tuple[int, ...]) -> list[tuple[list[np.ndarray], np.ndarray]]:
    """The maps and kernels of each call, for a decoder of these widths."""
    random = np.random.default_rng(0)

    def call(channels, side, size, scale=1):
        small = (1, side // scale, side // scale)
        maps = [random.standard_normal((*small, c), "float32") for c in channels]
        return maps, random.random((1, side, side, size**2), "float32") / size**2

    calls = []
    *highs, low = widths
    for side, high in zip((32, 64, 128), reversed(highs), strict=True):
        calls += [
            call([(low + high) // 4], side, 3),
            call([25], side, 5, 2),
            call([low, 9], side, 5, 2),
            call([high], side, 3),
        ]
        low += high
    return calls


def make_tensorflow(form, inputs):
    import tensorflow as tf

    reassemble = every_call(form)
    inputs = tf.nest.map_structure(tf.constant, inputs)

    @tf.function
    def step(inputs):
        with tf.GradientTape() as tape:
            tape.watch(tf.nest.flatten(inputs))
            loss = sum(tf.reduce_mean(y**2) for y in reassemble(inputs))
        return tape.gradient(loss, inputs)

    forward = tf.function(reassemble)
    libraries = ("keras", "tensorflow")
    return lambda: forward(inputs)[-1], lambda: step(inputs)[-1][1], libraries


def make_jax(form, inputs):
    import jax

    reassemble = every_call(form)
    inputs = jax.tree.map(jax.numpy.asarray, inputs)

    def loss(inputs):
        return sum((y**2).mean() for y in reassemble(inputs))

    forward, step = jax.jit(reassemble), jax.jit(jax.grad(loss))
    return (
        lambda: jax.block_until_ready(forward(inputs))[-1],
        lambda: jax.block_until_ready(step(inputs))[-1][1],
        ("keras", "jax"),
    )


def make_torch(form, inputs):
    return *torch_runs(every_call(form), inputs), ("keras", "torch")


def make_plain(form, inputs):
    from carafe_forms import torch_unfold
    from plain_torch.offseg import carafe

    if form == "unfold":
        carafe = torch_unfold

    def reassemble(inputs):
        return [
            carafe(x.permute(0, 3, 1, 2), kernels.permute(0, 3, 1, 2))
            for maps, kernels in inputs
            for x in maps
        ]

    return *torch_runs(reassemble, inputs), ("torch",)


def torch_runs(reassemble, inputs):
    import torch

    inputs = [
        ([torch.from_numpy(x) for x in maps], torch.from_numpy(kernels))
        for maps, kernels in inputs
    ]
    leaves = [x.requires_grad_() for maps, kernels in inputs for x in (*maps, kernels)]

    @torch.inference_mode()
    def forward():
        return reassemble(inputs)[-1]

    def step():
        loss = sum((y**2).mean() for y in reassemble(inputs))
        return torch.autograd.grad(loss, leaves)[-1]

    return forward, step


def every_call(form):
    """A function that makes all calls with one of Keras's forms."""
    import carafe_forms

    from keras_lrseg.layers import carafe

    if form != "library":
        carafe = getattr(carafe_forms, form)

    def reassemble(inputs):
        return [
            y
            for maps, kernels in inputs
            for y in carafe(maps, kernels, kernels.shape[1] // maps[0].shape[1])
        ]

    return reassemble


MAKERS = {
    "tensorflow": make_tensorflow,
    "jax": make_jax,
    "torch": make_torch,
    "plain": make_plain,
}


if __name__ == "__main__":
    main()
