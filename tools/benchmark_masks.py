"""Forward pass and training step of the mask models beside transformers' Mask2Former.

Float32 on the CPU, seeded random weights, 150 classes, all predictions at stride 4, no
drop path. A training step is forward, the loss over all predictions with matching,
backward and AdamW. Contenders:

    tensorflow, jax, torch    keras_lrseg, as `fit` compiles it
    transformers              its Mask2Former with Swin-T, in PyTorch

They run in turn, each in a process of its own, see `bench.Rounds`; a model makes a
group, whose rows are added to results/masks.csv.

Example:
    python tools/benchmark_masks.py
    python tools/benchmark_masks.py --models LRFormerTPlus --size 128 --rounds 1
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
    "transformers": "torch",
}
MODELS = ("LRFormerTPlus", "Mask2FormerSwinT")
NUM_CLASSES = 150
SHOWN = 12  # classes in an image
LEARNING_RATE, WEIGHT_DECAY = 1e-4, 0.05


def main() -> None:
    arguments = parse_arguments()
    if arguments.worker:
        make = make_transformers if arguments.worker == "transformers" else make_keras
        bench.serve(answers(make, arguments))
        return
    bench.warn_if_busy()
    for model in arguments.models:
        rows = measure(model, arguments)
        for row in rows:
            bench.append_row(arguments.out, row)
        columns = ("contender", "forward_ms", "forward_ratio", "step_ms", "step_ratio")
        if rows:
            bench.print_table([{key: row[key] for key in columns} for row in rows])


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--models", nargs="+", choices=MODELS, default=MODELS, metavar="MODEL")
    add("--contenders", nargs="+", choices=list(BACKENDS), default=list(BACKENDS))
    add("--size", type=int, default=512, help="side of the images in pixels")
    add("--rounds", type=int, default=5)
    add("--warm-ups", type=int, default=2, help="rounds before, not counted")
    add("--threads", type=int, default=2)
    add("--out", type=Path, default=bench.RESULTS / "masks.csv")
    add("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error("--rounds expects at least 1")
    return arguments


def measure(model: str, arguments: argparse.Namespace) -> list[dict]:
    """Run the rounds of one model; return a row of the CSV for each contender."""
    print(f"\n{model} {arguments.size}×{arguments.size}", flush=True)
    command = [__file__, "--models", model, "--size", str(arguments.size), "--worker"]
    rounds = bench.Rounds(
        {name: ([*command, name], BACKENDS[name]) for name in arguments.contenders},
        arguments.warm_ups,
        arguments.rounds,
        arguments.threads,
    )
    return [
        {
            **bench.machine(),
            "contender": name,
            "versions": rounds.versions[name],
            "model": model if name != "transformers" else "Mask2FormerSwinT",
            "group": model,
            "size": arguments.size,
            "threads": arguments.threads,
            "rounds": arguments.rounds,
            "forward_ms": f"{1e3 * rounds.median(name):.0f}",
            "forward_ratio": rounds.ratio(name, to="transformers"),
            "step_ms": f"{1e3 * rounds.median(name, 'step_seconds'):.0f}",
            "step_ratio": rounds.ratio(name, "step_seconds", "transformers"),
        }
        for name in rounds.answers
    ]


# === The workers ===


def answers(make, arguments: argparse.Namespace) -> Iterator[dict]:
    """What a worker answers: its versions, then the seconds of each round."""
    random = np.random.default_rng(0)
    size = arguments.size
    images = random.standard_normal((1, size, size, 3), "float32")  # as if normalised
    blocks = random.choice(NUM_CLASSES, SHOWN)[random.integers(0, SHOWN, (1, 8, 8))]
    labels = blocks.repeat(size // 8, axis=1).repeat(size // 8, axis=2)
    forward, step, libraries = make(arguments.models[0], images, labels)
    yield {"versions": bench.versions(*libraries)}
    while True:
        seconds = bench.timed(forward)
        yield {"seconds": seconds, "step_seconds": bench.timed(step)}


def make_keras(name, images, labels):
    import keras

    import keras_lrseg
    from keras_lrseg.training import MaskClassificationLoss

    keras.utils.set_random_seed(0)
    model = getattr(keras_lrseg, name)(
        NUM_CLASSES, include_preprocessing=False, upsample=False, drop_path_rate=0.0
    )
    every = keras.Model(model.input, model.predictions)
    every.compile(jit_compile=keras.config.backend() == "jax")
    optimizer = keras.optimizers.AdamW(LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    model.compile(optimizer, MaskClassificationLoss())

    def forward():
        return every.predict_on_batch(images)[-1][1]

    def step():
        return model.train_on_batch(images, labels)

    return forward, step, ("keras", keras.config.backend())


def make_transformers(_, images, labels):
    import torch
    from transformers import (
        Mask2FormerConfig,
        Mask2FormerForUniversalSegmentation,
        SwinConfig,
    )

    torch.manual_seed(0)
    swin = SwinConfig(
        drop_path_rate=0.0, out_features=[f"stage{i}" for i in (1, 2, 3, 4)]
    )
    config = Mask2FormerConfig(backbone_config=swin, num_labels=NUM_CLASSES)
    model = Mask2FormerForUniversalSegmentation(config)
    optimizer = torch.optim.AdamW(
        model.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY
    )
    x = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()  # (B, 3, H, W)
    classes = np.unique(labels)
    targets = {
        "class_labels": [torch.from_numpy(classes)],
        "mask_labels": [torch.from_numpy(labels == classes[:, None, None]).float()],
    }

    @torch.inference_mode()
    def forward():
        return model.eval()(x).masks_queries_logits

    def step():
        optimizer.zero_grad()
        loss = model.train()(x, **targets).loss
        loss.backward()
        optimizer.step()
        return loss.detach()

    return forward, step, ("transformers", "torch")


if __name__ == "__main__":
    main()
