"""Trains variations of a model alike, from random weights on the demo data.

Within a study all else is equal: data, steps, batches, learning rate and seeds.

    offset_learning  OffSeg-T with the classifiers and decoders of OffSeg's Table 6:
                     pixel (1×1 convolution), norm (the layer norm that Offset Learning
                     ends with), class and feature (one branch), both (Offset Learning),
                     plain (both, in a decoder without FreqFusion)
    decoders         LRFormer-S with the decoders of LRFormer's Table 10, and
                     SegFormer-B2 with its own and with LRDecoder
    lrformer         LRFormer-T with other query grids (Table 7), without depthwise
                     convolutions (Table 9), with other widths of LRDecoder (Table 11),
                     and SegFormer-B1; small, medium and large classes (Table 8)

Each run is a process of its own and adds a row to results/study_NAME.csv; runs that the
file has already are not repeated, so an interrupted study goes on where it was. At the
end a picture of all scores is drawn beside it. Columns beside the recipe's:

    params, flops_256, attention_flops_256    weights; multiply-accumulates at 256×256
    miou, miou_small, miou_medium, miou_large    of all classes, and of the thirds of
                                              classes by their share of an image
    train_s                                   seconds

Example:
    python tools/study.py decoders
    python tools/study.py lrformer --steps 20 --seeds 0 --out /tmp/try.csv
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import bench

LEARNING_RATE = 1e-3  # from scratch, as the demo trains


def main() -> None:
    arguments = parse_arguments()
    if arguments.run:
        train(arguments.run, arguments.seeds[0], arguments)
        return
    for seed in arguments.seeds:
        for name in arguments.configurations or STUDIES[arguments.study].models:
            if is_done(name, seed, arguments):
                continue
            print(f"{name}, seed {seed}", flush=True)
            command = [sys.executable, __file__, arguments.study]
            command += ["--run", name, "--seeds", str(seed)]
            for option in ("steps", "batch", "crop", "out"):
                command += [f"--{option}", str(getattr(arguments, option))]
            subprocess.run(command, check=True)
    draw(arguments)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("study", choices=STUDIES)
    add("--configurations", nargs="+", metavar="NAME", help="of the study; default all")
    add("--seeds", nargs="+", type=int, default=[0, 1, 2])
    add("--steps", type=int, default=300)
    add("--batch", type=int, default=8)
    add("--crop", type=int, default=128, help="side of the training crops")
    add("--out", type=Path, help="default results/study_NAME.csv")
    add("--run", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    names = STUDIES[arguments.study].models
    unknown = sorted({*(arguments.configurations or ())} - {*names})
    if unknown:
        parser.error(f"{unknown} are none of {arguments.study}'s: {list(names)}")
    if arguments.out is None:
        arguments.out = bench.RESULTS / f"study_{arguments.study}.csv"
    return arguments


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
    model = STUDIES[arguments.study].models[name](dataset.num_classes)
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
        "attention_flops_256": profile.attention_flops,
        "miou": f"{scores.miou:.4f}",
        **{f"miou_{group}": f"{x:.4f}" for group, x in scores.group_miou.items()},
        "pixel_accuracy": f"{scores.pixel_accuracy:.4f}",
        "train_s": f"{seconds:.0f}",
    }
    bench.append_row(arguments.out, row)
    print(f"  mIoU {scores.miou:.4f}", flush=True)


# === The models ===


class Study(NamedTuple):
    """What a study compares.

    Args:
        title: of the picture.
        models: functions from the number of classes to a segmenter, by name.
    """

    title: str
    models: dict[str, Callable]


def named(model: str, **settings) -> Callable:
    """Return a function that makes a model of the library with some settings."""

    def make(num_classes):
        import keras_lrseg

        return getattr(keras_lrseg, model)(num_classes, **settings)

    return make


def offset_learning(**branches) -> Callable:
    """OffSeg-T, with branches of Offset Learning switched off."""

    def make(num_classes):
        import keras_lrseg
        from keras_lrseg.layers import OffsetLearning

        classifier = OffsetLearning(num_classes, **branches, name="classifier")
        return keras_lrseg.OffSegT(num_classes, classifier=classifier)

    return make


def composed(
    backbone: str,
    decoder: str,
    channels: int,
    backbone_settings: dict | None = None,
    **decoder_settings,
) -> Callable:
    """A backbone of the library with another decoder and a 1×1 convolution."""

    def make(num_classes):
        from keras_lrseg import SemanticSegmenter, decoders
        from keras_lrseg.backbones import lrformer, mix_transformer
        from keras_lrseg.layers import PointwiseConvolution

        family, variant = backbone.split("-")
        make_backbone, variants = {
            "LRFormer": (lrformer.LRFormerBackbone, lrformer.VARIANTS),
            "SegFormer": (
                mix_transformer.MixTransformerBackbone,
                mix_transformer.VARIANTS,
            ),
        }[family]
        settings, kind = decoder_settings, SemanticSegmenter
        if decoder == "ObjectContextDecoder":
            settings, kind = {"num_classes": num_classes}, segmenter_with_regions()
        return kind(
            make_backbone(**variants[variant], **(backbone_settings or {})),
            getattr(decoders, decoder)(channels, **settings, name="decoder"),
            PointwiseConvolution(num_classes, name="classifier"),
            dropout_rate=0.1,
        )

    return make


def lrformer_t(width: int = 256, **settings) -> Callable:
    """LRFormer-T with layer scales from 0.1 on.

    From the published 1e-6 the branches of a block get no say in so few steps.
    """
    scale = {"layer_scale": 0.1}
    return composed("LRFormer-T", "LRDecoder", width, {**scale, **settings}, **scale)


def segmenter_with_regions() -> type:
    """A segmenter whose object regions have a loss of their own, as OCR trains it."""
    import keras

    import keras_lrseg

    class SegmenterWithRegions(keras_lrseg.SemanticSegmenter):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            regions = self.decoder.region_output()
            self.both = keras.Model(self.input, [self.output, regions])

        def call(self, inputs, training=None, mask=None):
            if training:
                return self.both(inputs, training=True)
            return super().call(inputs, training=training, mask=mask)

        def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
            if not isinstance(y_pred, list):
                return self.loss(y, y_pred)
            logits, regions = y_pred
            return self.loss(y, logits) + 0.4 * self.loss(y, regions)

    return SegmenterWithRegions


STUDIES = {
    "offset_learning": Study(
        "OffSeg-T",
        {
            "pixel": named("OffSegT", classifier="pixel"),
            "norm": offset_learning(class_offset=False, feature_offset=False),
            "class": offset_learning(feature_offset=False),
            "feature": offset_learning(class_offset=False),
            "both": offset_learning(),
            "plain": named("OffSegT", freq_fusion=False),
        },
    ),
    "decoders": Study(
        "Decoders",
        {
            "LRDecoder": named("LRFormerS"),
            "OCR": composed("LRFormer-S", "ObjectContextDecoder", 384),
            "PPM": composed("LRFormer-S", "PyramidPoolingDecoder", 384),
            "DA": composed("LRFormer-S", "DualAttentionDecoder", 384),
            "CC": composed("LRFormer-S", "CrissCrossDecoder", 384),
            "SegFormer-B2": named("SegFormerB2", decoder_channels=768),
            "B2 + LRDecoder": composed("SegFormer-B2", "LRDecoder", 384),
        },
    ),
    "lrformer": Study(
        "LRFormer-T",
        {
            "LRFormer-T": lrformer_t(),
            **{f"grid {n}": lrformer_t(pool_size=n) for n in (4, 8, 32)},
            "no depthwise in attention": lrformer_t(depthwise=False),
            "no depthwise in feed-forward": lrformer_t(feed_forward_depthwise=False),
            "no depthwise": lrformer_t(depthwise=False, feed_forward_depthwise=False),
            **{f"width {n}": lrformer_t(width=n) for n in (64, 128, 512)},
            "SegFormer-B1": named("SegFormerB1"),
        },
    ),
}


# === Drawing ===


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
    study = STUDIES[arguments.study]
    width = 1.5 + 0.75 * len(study.models)
    figure, axes = pyplot.subplots(figsize=(width, 3.2), layout="constrained")
    for x, name in enumerate(study.models):
        scores = [float(r["miou"]) for r in rows if r["configuration"] == name]
        if scores:
            axes.plot([x] * len(scores), scores, "o", color="tab:blue", alpha=0.6)
            mean = sum(scores) / len(scores)
            axes.hlines(mean, x - 0.25, x + 0.25, color="black")
            axes.annotate(f"{mean:.3f}", (x + 0.27, mean), va="center", fontsize=7)
    slant = {"rotation": 20, "ha": "right"} if len(study.models) > 6 else {}
    axes.set_xticks(range(len(study.models)), study.models, fontsize=8, **slant)
    axes.set_xlim(-0.6, len(study.models) - 0.2)  # the last mean's number too
    axes.set_ylabel("validation mIoU")
    axes.set_title(
        f"{study.title} on the demo tiles, {arguments.steps} steps from scratch",
        fontsize=10,
    )
    path = arguments.out.with_suffix(".png")
    with bench.atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)
    print(path)


if __name__ == "__main__":
    main()
