"""Measures the forward pass of the models on a CPU, beside plain PyTorch peers.

Batch 1, float32, seeded random weights, 150 classes, logits at the decoder's stride;
the models are built for images of unknown size. Contenders:

    tensorflow      keras_lrseg in a tf.function
    jax             keras_lrseg under jax.jit
    torch           keras_lrseg, eager, in inference mode
    plain           the same architecture in plain PyTorch (tools/plain_torch)
    segformer       transformers' SegFormer, beside the models that `MODELS` names
    torch-compile   keras_lrseg with torch.export, then torch.compile; needs a C++
                    compiler
    plain-compile   the plain peer with torch.compile

"SegNeXtT-offset" is SegNeXtT with Offset Learning in place of the 1×1 convolution.

Rounds are interleaved, see `bench.Rounds`. Even so it wants a quiet machine: PyTorch's
threads wait actively, so it alone becomes many times slower when another program takes
one of their cores. A model and size make a group; its rows are added to
results/forward_FAMILY.csv when its rounds are over, so an interrupted run keeps the
groups before. GMAC are those of convolutions and matrix products, as the papers write
them.

Example:
    python tools/benchmark_forward.py --compile
    python tools/benchmark_forward.py --models LRFormerT --sizes 512 --rounds 3
"""

import argparse
import functools
from collections.abc import Iterator
from dataclasses import dataclass
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
SEGFORMERS = {  # depths, widths, width of the decoder
    "SegFormer-B0": ((2, 2, 2, 2), (32, 64, 160, 256), 256),
    "SegFormer-B1": ((2, 2, 2, 2), (64, 128, 320, 512), 256),
    "SegFormer-B2": ((3, 4, 6, 3), (64, 128, 320, 512), 768),
}


@dataclass(frozen=True)
class Model:
    """What is measured of a model.

    Args:
        family: names the CSV file.
        gmac: by size, 512 for 512×512.
        segformer: the SegFormer beside it; None for none.
    """

    family: str
    gmac: dict[int, float]
    segformer: str | None = None


MODELS = {
    "LRFormerT": Model("lrformer", {512: 16.55, 1024: 58.3}, "SegFormer-B1"),
    "LRFormerS": Model("lrformer", {512: 39.72, 1024: 142.6}, "SegFormer-B2"),
    "OffSegT": Model("offseg", {512: 9.54}, "SegFormer-B0"),
    "OffSegB": Model("offseg", {512: 14.94}),
    "SegFormerB0": Model("offseg", {512: 8.39}, "SegFormer-B0"),
    "SegFormerB0-offset": Model("offseg", {512: 8.67}),
    "SegNeXtT": Model("offseg", {512: 6.40}),
    "SegNeXtT-offset": Model("offseg", {512: 7.15}),
}
NUM_CLASSES = 150


def main() -> None:
    arguments = parse_arguments()
    if arguments.worker:
        model, size = arguments.models[0], arguments.sizes[0]
        bench.serve(answers(arguments.worker, model, size))
        return
    bench.warn_if_busy()
    for model in arguments.models:
        file = arguments.out / f"forward_{MODELS[model].family}.csv"
        for size in arguments.sizes or MODELS[model].gmac:
            rows = measure(model, size, arguments)
            for row in rows:
                bench.append_row(file, row)
            show(rows)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    models = list(MODELS)
    add("--models", nargs="+", choices=models, default=models, metavar="MODEL")
    add("--sizes", nargs="+", type=int, help="512 is 512×512; default: of each model")
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
    add("--out", type=Path, default=bench.RESULTS, help="folder of the CSV files")
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
    command = ["--models", model, "--sizes", str(size), "--worker"]
    contenders = {
        name: ([__file__, *command, name], BACKENDS[name])
        for name in arguments.contenders
        if name != "segformer" or MODELS[model].segformer
    }
    settings = (arguments.warm_ups, arguments.rounds, arguments.threads)
    rounds = bench.Rounds(contenders, *settings)
    return [make_row(name, model, size, rounds, settings) for name in rounds.answers]


def make_row(name, model, size, rounds, settings) -> dict:
    """A row of the CSV."""
    _, number, threads = settings
    median, gmac = rounds.median(name), MODELS[model].gmac.get(size)
    is_segformer = name == "segformer"
    return {
        **bench.machine(),
        "contender": name,
        "backend": BACKENDS[name],
        "versions": rounds.versions[name],
        "group": model,
        "model": MODELS[model].segformer if is_segformer else model,
        "height": size,
        "width": size,
        "threads": threads,
        "rounds": number,
        "median_ms": f"{1e3 * median:.1f}",
        "min_ms": f"{1e3 * min(rounds.seconds(name)):.1f}",
        "ratio_to_plain": rounds.ratio(name),
        "first_call_s": f"{rounds.answers[name][0]['seconds']:.2f}",
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
        yield {"seconds": bench.timed(run)}


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

    torch.manual_seed(0)
    # As fast as PyTorch's own layout or up to 1.4 times faster, by the model.
    forward = plain_segmenter(model).eval().to(memory_format=torch.channels_last)
    images = channels_first(images).to(memory_format=torch.channels_last)
    if compiled:
        forward = torch.compile(forward)
    return torch_run(forward, images), ("torch",)


def plain_segmenter(model):
    from plain_torch.lrformer import lrformer
    from plain_torch.offseg import OffSeg
    from plain_torch.segformer import SegFormer
    from plain_torch.segnext import SegNeXt

    name, _, classifier = model.partition("-")
    variant = name[-1].lower()
    make = {
        "LRFormer": lambda: lrformer(variant, NUM_CLASSES),
        "OffSeg": lambda: OffSeg(variant, NUM_CLASSES),
        "SegFormerB": lambda: SegFormer(NUM_CLASSES, classifier == "offset"),
        "SegNeXt": lambda: SegNeXt(NUM_CLASSES, classifier == "offset"),
    }
    return make[name[:-1]]()


def make_segformer(model, images, _):
    import torch
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    depths, widths, decoder_width = SEGFORMERS[MODELS[model].segformer]
    config = SegformerConfig(
        depths=depths,
        hidden_sizes=widths,
        decoder_hidden_size=decoder_width,
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
    name, _, classifier = model.partition("-")
    settings = {"classifier": classifier} if classifier else {}
    return getattr(keras_lrseg, name)(
        num_classes=NUM_CLASSES,
        include_preprocessing=False,
        upsample=False,
        **settings,
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
