"""`keras-lrseg evaluate`: score a model on labelled images."""

import contextlib
import dataclasses
import pathlib

import numpy as np

from keras_lrseg.cli.options import labelled, positive, progress

SUMMARY = "score a model on labelled images"
EXAMPLE = (
    "keras-lrseg evaluate runs/street/model.keras --images val/images "
    "--masks val/masks --json scores.json"
)
INTERRUPTED = "Interrupted. Nothing was written."
SETTINGS = (
    *("paper", "short_side", "long_side", "align", "pad"),
    *("window", "stride", "scales", "flip"),
)
LABELLED = ("masks", "classes", "dataset", "root", "split")
SHEET_ROWS = 4  # of the worst images, and of the best


def add_arguments(parser):
    parser.add_argument("model", metavar="MODEL.keras")
    parser.add_argument(
        "--images", metavar="DIR", help="for a classifier a folder of a folder a class"
    )
    parser.add_argument("--masks", metavar="DIR", help="PNG of train ids, 255 ignored")
    parser.add_argument(
        "--classes", metavar="FILE", help='a name a line, optionally "name #rrggbb"'
    )
    parser.add_argument(
        "--dataset", metavar="NAME", help="a public data set instead, such as ade20k"
    )
    parser.add_argument("--root", metavar="DIR", help="with --dataset: its folder")
    parser.add_argument("--split", help="with --dataset (default validation)")
    _add_settings(parser.add_argument_group("how images are segmented"))
    classifier = parser.add_argument_group("how images are classified")
    classifier.add_argument(
        "--crop",
        type=positive,
        metavar="N",
        help="side of the middle that is seen (default 224; the papers also use 384)",
    )
    classifier.add_argument(
        "--batch", type=positive, metavar="N", help="images at a time (default 1)"
    )
    writes = parser.add_argument_group("what is written")
    writes.add_argument("--json", metavar="FILE", help="scores, also of each image")
    writes.add_argument("--csv", metavar="FILE", help="scores, a class a line")
    writes.add_argument(
        "--contact-sheet",
        metavar="FILE",
        help=f"picture of the {SHEET_ROWS} worst and the {SHEET_ROWS} best images",
    )


def _add_settings(group):
    group.add_argument(
        "--paper",
        metavar="FAMILY",
        help="with --dataset: as the papers test LRFormer, LRFormerL, OffSeg, "
        "SegFormer, SegNeXt, Mask2Former or Mask2FormerL; options below change it",
    )
    group.add_argument(
        "--short-side", type=positive, help="resize to the largest size within this"
    )
    group.add_argument("--long-side", type=positive, help="and this, in pixels")
    group.add_argument(
        "--align", type=positive, metavar="N", help="stretch to multiples of N"
    )
    group.add_argument(
        "--pad", type=positive, metavar="N", help="pad whole images to multiples of N"
    )
    for name, text in (
        ("--window", "slide a window over the image"),
        ("--stride", "of the window"),
    ):
        group.add_argument(name, type=positive, nargs=2, metavar=("H", "W"), help=text)
    group.add_argument(
        "--scales",
        type=float,
        nargs="+",
        metavar="S",
        help="average over these sizes, such as 0.5 0.75 1 1.25 1.5 1.75",
    )
    group.add_argument(
        "--flip",
        action="store_true",
        default=None,
        help="average with the mirrored image",
    )


def run(arguments):
    from keras_lrseg import analysis, checkpoints

    model = checkpoints.load_model(arguments.model)
    classifies = len(model.output_shape) == 2
    _check_options(arguments, classifies)
    with contextlib.ExitStack() as last, contextlib.ExitStack() as first:
        outputs = _outputs(arguments, first, last)
        if classifies:
            scores = _classify(arguments, model)
        else:
            dataset, settings = _dataset(arguments, model), _settings(arguments)
            scores = _segment(model, dataset, settings)
        print(scores)
        if "json" in outputs:
            outputs["json"].write_text(scores.to_json() + "\n")
        if "csv" in outputs:
            outputs["csv"].write_text(scores.to_csv())
        first.close()  # the scores are kept, whatever happens to the picture
        if "contact_sheet" in outputs:
            worst, best = scores.extremes(SHEET_ROWS)
            rows = [*worst, *best]
            path = outputs["contact_sheet"]
            captions = [
                f"{pathlib.Path(scores.image_names[i]).name}: "
                f"mIoU {scores.image_miou[i]:.3f}"
                for i in rows
            ]
            analysis.contact_sheet(
                model, dataset, path, rows, settings, captions=captions
            )


def _check_options(arguments, classifies):
    kind, others = "segmenters", (*SETTINGS, *LABELLED, "contact_sheet")
    if not classifies:
        kind, others = "classifiers", ("crop", "batch")
    given = [name for name in others if getattr(arguments, name) is not None]
    if given:
        option = given[0].replace("_", "-")
        raise ValueError(f"--{option} is for {kind}; {arguments.model} is none.")


def _classify(arguments, model):
    from keras_lrseg import data, evaluation

    if not arguments.images:
        raise ValueError("A classifier needs --images, a folder of a folder a class.")
    return evaluation.evaluate_classifier(
        model,
        data.ClassificationDataset.from_folders(
            arguments.images, getattr(model, "classes", None)
        ),
        arguments.crop or 224,
        arguments.batch or 1,
        progress,
    )


def _segment(model, dataset, settings):
    from keras_lrseg import evaluation

    scores = evaluation.evaluate(model, dataset, settings, progress)
    if not scores.confusion.any():
        raise ValueError(f"No pixel of {dataset.name} is labelled: nothing to score.")
    return scores


def _dataset(arguments, model):
    from keras_lrseg import data

    if arguments.dataset:
        if arguments.images or arguments.masks or arguments.classes:
            raise ValueError(
                "--dataset brings its own images, masks and classes: leave out "
                "--images, --masks and --classes."
            )
        if not arguments.root:
            raise ValueError(f"--dataset {arguments.dataset} needs its --root.")
        return data.load_dataset(
            arguments.dataset, arguments.root, arguments.split or "validation"
        )
    for option in ("root", "split", "paper"):
        if getattr(arguments, option):
            raise ValueError(f"--{option} goes with --dataset.")
    if not (arguments.images and arguments.masks):
        raise ValueError("A segmenter needs --images and --masks, or --dataset.")
    return labelled(arguments, model)


def _settings(arguments):
    from keras_lrseg import evaluation

    settings = evaluation.TestSettings()
    if arguments.paper:
        settings = evaluation.paper_settings(arguments.dataset, arguments.paper)
    given = {name: getattr(arguments, name) for name in SETTINGS if name != "paper"}
    given = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in given.items()
        if value is not None
    }
    return dataclasses.replace(settings, **given)


def _outputs(arguments, first, last):
    """Temporary paths of the files to write, tried now and not after hours of work."""
    from keras_lrseg import data

    outputs = {}
    for name in ("json", "csv", "contact_sheet"):
        path = getattr(arguments, name)
        if path is None:
            continue
        if pathlib.Path(path).is_dir():
            raise IsADirectoryError(f"{path} is a folder; expected a file to write.")
        stack = last if name == "contact_sheet" else first
        outputs[name] = stack.enter_context(data.atomic_path(path))
        if name == "contact_sheet":  # the suffix must be that of a picture
            data.save_image(outputs[name], np.zeros((1, 1, 3), "uint8"))
        else:
            outputs[name].touch()
    if len(set(outputs.values())) < len(outputs):
        raise ValueError("--json, --csv and --contact-sheet expect different files.")
    return outputs
