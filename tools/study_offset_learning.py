"""Does Offset Learning help? Table 6 of the OffSeg paper on the demo data.

OffSeg-T from random weights on the land cover tiles, with six classifiers or decoders
and nothing else changed: same data, steps, batches, learning rate and seeds.

    pixel      1×1 convolution
    norm       the layer norm over classes that Offset Learning ends with, no offsets
    class      Offset Learning, class branch alone
    feature    Offset Learning, feature branch alone
    both       Offset Learning
    plain      both, in a pixel decoder without FreqFusion

Each run is a process of its own and adds a row to results/study_offset_learning.csv;
runs that the file has already are not repeated, so an interrupted study goes on where
it was. At the end a picture of all scores is drawn beside it.

Example:
    python tools/study_offset_learning.py
    python tools/study_offset_learning.py --steps 20 --seeds 0 --out /tmp/try.csv
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import bench

CONFIGURATIONS = ("pixel", "norm", "class", "feature", "both", "plain")
LEARNING_RATE = 1e-3  # from scratch, as the demo trains


def main() -> None:
    arguments = parse_arguments()
    if arguments.run:
        train(arguments.run, arguments.seeds[0], arguments)
        return
    for seed in arguments.seeds:
        for name in arguments.configurations:
            if is_done(name, seed, arguments):
                continue
            print(f"{name}, seed {seed}", flush=True)
            command = [sys.executable, __file__, "--run", name, "--seeds", str(seed)]
            for option in ("steps", "batch", "crop", "out"):
                command += [f"--{option}", str(getattr(arguments, option))]
            subprocess.run(command, check=True)
    draw(arguments)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--configurations", nargs="+", choices=CONFIGURATIONS, default=CONFIGURATIONS)
    add("--seeds", nargs="+", type=int, default=[0, 1, 2])
    add("--steps", type=int, default=300)
    add("--batch", type=int, default=8)
    add("--crop", type=int, default=128, help="side of the training crops")
    add("--out", type=Path, default=bench.RESULTS / "study_offset_learning.csv")
    add("--run", help=argparse.SUPPRESS)
    return parser.parse_args()


def key(row: dict) -> tuple[str, ...]:
    names = ("configuration", "seed", "steps", "batch", "crop")
    return tuple(str(row[name]) for name in names)


def is_done(name: str, seed: int, arguments: argparse.Namespace) -> bool:
    wanted = {**vars(arguments), "configuration": name, "seed": seed}
    return key(wanted) in {key(row) for row in bench.read_csv(arguments.out)}


def train(name: str, seed: int, arguments: argparse.Namespace) -> None:
    """Train and score one configuration; add its row."""
    import keras

    from keras_lrseg import analysis, data, evaluation, training

    keras.utils.set_random_seed(seed)
    dataset, validation = data.load_demo("train"), data.load_demo("validation")
    model = make(name, dataset.num_classes)
    start = time.perf_counter()
    recipe = training.SegmentationRecipe(
        crop=(arguments.crop, arguments.crop),
        batch_size=arguments.batch,
        steps=arguments.steps,
        learning_rate=LEARNING_RATE,
        epoch_steps=arguments.steps,
        seed=seed,
    )
    with tempfile.TemporaryDirectory() as folder:
        training.train(model, dataset, Path(folder) / "run", recipe)
    seconds = time.perf_counter() - start
    scores = evaluation.evaluate(model, validation)
    profile = analysis.profile(model, (256, 256))
    backend = keras.config.backend()
    row = {
        **bench.machine(),
        "backend": backend,
        "versions": bench.versions("keras", backend),
        "configuration": name,
        "seed": seed,
        "steps": arguments.steps,
        "batch": arguments.batch,
        "crop": arguments.crop,
        "params": profile.params,
        "flops_256": profile.flops,
        "miou": f"{scores.miou:.4f}",
        "pixel_accuracy": f"{scores.pixel_accuracy:.4f}",
        "train_s": f"{seconds:.0f}",
    }
    bench.append_row(arguments.out, row)
    print(f"  mIoU {scores.miou:.4f}", flush=True)


def make(name: str, num_classes: int):
    """OffSeg-T with the classifier or decoder of a configuration."""
    import keras_lrseg
    from keras_lrseg.layers import OffsetLearning

    if name == "pixel":
        return keras_lrseg.OffSegT(num_classes, classifier="pixel")
    classifier = OffsetLearning(
        num_classes,
        class_offset=name not in ("norm", "feature"),
        feature_offset=name not in ("norm", "class"),
        name="classifier",
    )
    return keras_lrseg.OffSegT(
        num_classes, classifier=classifier, freq_fusion=name != "plain"
    )


def draw(arguments: argparse.Namespace) -> None:
    """Draw every score as a dot and the means as lines."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    wanted = vars(arguments)
    rows = [
        row
        for row in bench.read_csv(arguments.out)
        if key({**row, **{k: wanted[k] for k in ("steps", "batch", "crop")}})
        == key(row)
    ]
    figure, axes = pyplot.subplots(figsize=(6, 3.2), layout="constrained")
    for x, name in enumerate(CONFIGURATIONS):
        scores = [float(r["miou"]) for r in rows if r["configuration"] == name]
        if scores:
            axes.plot([x] * len(scores), scores, "o", color="tab:blue", alpha=0.6)
            mean = sum(scores) / len(scores)
            axes.hlines(mean, x - 0.25, x + 0.25, color="black")
            axes.annotate(f"{mean:.3f}", (x + 0.27, mean), va="center", fontsize=8)
    axes.set_xticks(range(len(CONFIGURATIONS)), CONFIGURATIONS)
    axes.set_xlim(-0.6, len(CONFIGURATIONS) - 0.2)  # the last mean's number too
    axes.set_ylabel("validation mIoU")
    axes.set_title(
        f"OffSeg-T on the demo tiles, {arguments.steps} steps from scratch", fontsize=10
    )
    path = arguments.out.with_suffix(".png")
    with bench.atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)
    print(path)


if __name__ == "__main__":
    main()
