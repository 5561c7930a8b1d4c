"""`keras-lrseg VERB`: parses arguments and calls the library; no logic of its own."""

import argparse
import os
import pathlib
import sys

EXAMPLES = {
    "train": "keras-lrseg train --model LRFormerT --images street/images --masks "
    "street/masks --classes street/classes.txt --crop 512 512 --batch 8 --steps 20000 "
    "--out runs/street",
    "evaluate": "keras-lrseg evaluate runs/street/model.keras --images val/images "
    "--masks val/masks --json scores.json",
    "predict": "keras-lrseg predict runs/street/model.keras a.jpg b.jpg --out labels",
    "export": "keras-lrseg export runs/street/model.keras --to tflite --size 512 512 "
    "--out street.tflite",
    "profile": "keras-lrseg profile LRFormerS --size 512 512 --num-classes 150",
    "mine": "keras-lrseg mine runs/street/model.keras --images val/images "
    "--masks val/masks --out mined",
    "convert": "keras-lrseg convert LRFormerS lrformer_s_ade20k.pth lrformer_s.keras",
}


def main(argv=None) -> int:
    """Run one command; returns the exit status (2 for an expected error)."""
    arguments = _parser().parse_args(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        arguments.run(arguments)
    except KeyboardInterrupt:
        print(f"\n{arguments.interrupted}", file=sys.stderr)
        return 130
    except Exception as error:
        message = _expected(error)
        if message is None or arguments.traceback:
            raise
        print(f"keras-lrseg {arguments.verb}: {message}", file=sys.stderr)
        return 2
    return 0


def _expected(error):
    """One line about an error that the user can mend; None for any other."""
    # What a dataset's own reader raises inside tf.data arrives as TensorFlow's error.
    from_stream = type(error).__name__ in ("InvalidArgumentError", "UnknownError")
    kinds = (ValueError, OSError, ImportError, FloatingPointError)
    if not isinstance(error, kinds) and not from_stream:
        return None
    lines = str(error).strip().splitlines() or [type(error).__name__]
    if from_stream:
        lines = [line for line in lines if "Error: " in line] or lines
        return lines[0].partition("Error: ")[2] or lines[0]
    return " ".join(line.strip() for line in lines if line.strip())


def _train(arguments):
    from keras_lrseg import data, models, training

    dataset = data.SegmentationDataset.from_folders(
        arguments.images, arguments.masks, arguments.classes
    )
    validation = None
    if arguments.val_images or arguments.val_masks:
        if not (arguments.val_images and arguments.val_masks):
            raise ValueError("--val-images and --val-masks go together.")
        validation = data.SegmentationDataset.from_folders(
            arguments.val_images, arguments.val_masks, dataset.classes
        )
    for part in filter(None, (dataset, validation)):
        print(f"Checking {len(part)} images of {part.name}", flush=True)
        pixels = part.check(_progress_callback())
        for name, count in zip(part.classes, pixels, strict=True):
            if count == 0:
                print(f"warning: no pixel of class {name!r} in {part.name}")
    model = models.make(
        arguments.model,
        num_classes=dataset.num_classes,
        weights=arguments.weights,
        backbone_weights=arguments.backbone_weights,
        reset_head=arguments.reset_head,
        dtype=arguments.precision,
        **_classifier(arguments),
    )
    pretrained = arguments.weights or arguments.backbone_weights
    path = training.train(
        model,
        dataset,
        arguments.out,
        crop=tuple(arguments.crop),
        batch_size=arguments.batch,
        steps=arguments.steps,
        learning_rate=arguments.learning_rate or (6e-5 if pretrained else 1e-3),
        validation=validation,
        epoch_steps=arguments.epoch_steps,
        seed=arguments.seed,
        resume=arguments.resume,
    )
    print(f"Model: {path}")


def _evaluate(arguments):
    from keras_lrseg import checkpoints, data, evaluation

    model = checkpoints.load_model(arguments.model)
    dataset = data.SegmentationDataset.from_folders(
        arguments.images, arguments.masks, arguments.classes or _classes(model)
    )
    scores = evaluation.evaluate(model, dataset, _progress)
    print(scores)
    if arguments.json:
        with data.atomic_path(arguments.json) as temporary:
            temporary.write_text(scores.to_json() + "\n")


def _predict(arguments):
    from keras_lrseg import checkpoints, data, evaluation

    model = checkpoints.load_model(arguments.model)
    if len(model.output_shape) != 4:
        raise ValueError(f"{arguments.model} is no segmenter: it gives no label maps.")
    palette = getattr(model, "palette", None)
    if palette is None:
        palette = data.default_palette(model.output_shape[-1])
    folder = pathlib.Path(arguments.out)
    folder.mkdir(parents=True, exist_ok=True)
    stems = [pathlib.Path(path).stem for path in arguments.pictures]
    if len(set(stems)) < len(stems):
        raise ValueError("Two images have the same name; predict them one by one.")
    for path, stem in zip(arguments.pictures, stems, strict=True):
        image = data.load_image(path)
        labels = evaluation.predict_labels(model, image)
        picture = data.overlay(image, labels, palette, arguments.opacity)
        data.save_mask(folder / f"{stem}.png", labels, palette)
        data.save_image(folder / f"{stem}_overlay.png", picture)
        print(folder / f"{stem}.png", folder / f"{stem}_overlay.png", sep="\n")


def _export(arguments):
    # The converter is TensorFlow's, whatever backend trained the model.
    os.environ["KERAS_BACKEND"] = "tensorflow"
    from keras_lrseg import checkpoints, export

    model = checkpoints.load_model(arguments.model)
    report = export.export_tflite(
        model, arguments.out, tuple(arguments.size), arguments.output
    )
    print(f"{arguments.out}: {report}")


def _profile(arguments):
    from keras_lrseg import analysis, checkpoints, models

    settings = _classifier(arguments)
    if not arguments.model.endswith(".keras"):
        model = models.make(
            arguments.model, num_classes=arguments.num_classes, **settings
        )
    elif settings:
        raise ValueError("--classifier goes with a model's name, not with a file.")
    else:
        model = checkpoints.load_model(arguments.model)
    profile = analysis.profile(model, tuple(arguments.size))
    print(profile.to_json() if arguments.json else profile)


def _mine(arguments):
    from keras_lrseg import analysis, checkpoints, data

    model = checkpoints.load_model(arguments.model)
    dataset = data.SegmentationDataset.from_folders(
        arguments.images, arguments.masks, arguments.classes or _classes(model)
    )
    folder = pathlib.Path(arguments.out)
    folder.mkdir(parents=True, exist_ok=True)
    mined = analysis.mine_class_representations(
        model, dataset, _progress, arguments.rcond
    )
    print(mined)
    with data.atomic_path(folder / "mined.json") as temporary:
        temporary.write_text(mined.to_json() + "\n")
    analysis.similarity_matrices(mined, folder / "similarity.png")
    analysis.similarity_maps(
        model, dataset, folder / "maps.png", mined.examples(), rcond=arguments.rcond
    )


def _convert(arguments):
    from keras_lrseg import checkpoints, models, training

    classifier, classes = checkpoints.published_head(arguments.source)
    if arguments.model in (models.CLASSIFIERS if classifier else models.SEGMENTERS):
        kind = "a segmenter" if classifier else "an image classifier"
        raise ValueError(f"{arguments.source} holds {kind}, {arguments.model} is none.")
    classes = arguments.num_classes or classes
    model = models.make(
        arguments.model,
        num_classes=classes,
        weights=arguments.source,
        reset_head=arguments.reset_head,
        **({"classifier": classifier} if classifier else {}),
    )
    training.save_model(model, arguments.out)
    print(f"{arguments.out}: {arguments.model} with {classes} classes")


def _classifier(arguments):
    """What --classifier sets: nothing when it is not given, the model's own default."""
    return {"classifier": arguments.classifier} if arguments.classifier else {}


def _classes(model):
    return getattr(model, "classes", None) or [
        f"class {i}" for i in range(model.output_shape[-1])
    ]


def _progress(items):
    """Yield the items of a sized iterable with a progress bar."""
    update = _progress_callback()
    for done, item in enumerate(items, 1):
        yield item
        update(done, len(items))


def _progress_callback():
    import keras

    bars = []

    def update(done, total):
        if not bars:
            bars.append(keras.utils.Progbar(total))
        bars[0].update(done)

    return update


def _parser():
    parser = argparse.ArgumentParser(
        prog="keras-lrseg",
        description="Train, score, use and export segmentation models.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    train = _verb(verbs, "train", _train, "train a model on a folder of images")
    train.set_defaults(
        interrupted="Interrupted. The same command with --resume goes on from the last "
        "checkpoint."
    )
    train.add_argument("--model", required=True, help="for example LRFormerT")
    _add_classifier(train)
    _add_data(train)
    train.add_argument("--val-images", metavar="DIR", help="images to score on")
    train.add_argument("--val-masks", metavar="DIR", help="their masks")
    train.add_argument(
        "--crop",
        type=_positive,
        nargs=2,
        default=(512, 512),
        metavar=("H", "W"),
        help="training crop in pixels (default 512 512)",
    )
    train.add_argument("--batch", type=_positive, default=8, help="images a step")
    train.add_argument("--steps", type=_positive, required=True, help="whole training")
    train.add_argument(
        "--epoch-steps",
        type=_positive,
        default=500,
        help="steps from one checkpoint to the next (default 500)",
    )
    train.add_argument(
        "--learning-rate",
        type=float,
        help="the peak (default 6e-5 from given weights, 1e-3 from scratch)",
    )
    train.add_argument("--weights", metavar="FILE", help="start from a whole model")
    train.add_argument("--backbone-weights", metavar="FILE", help="from a backbone")
    train.add_argument(
        "--reset-head", action="store_true", help="with --weights: new classes"
    )
    train.add_argument(
        "--precision",
        choices=("float32", "mixed_bfloat16", "mixed_float16"),
        default="float32",
    )
    train.add_argument("--seed", type=int, default=0, help="of data and augmentation")
    train.add_argument("--resume", action="store_true", help="go on with --out")
    train.add_argument("--out", required=True, metavar="DIR", help="folder of the run")

    evaluate = _verb(verbs, "evaluate", _evaluate, "score a model on labelled images")
    evaluate.add_argument("model", metavar="MODEL.keras")
    _add_data(evaluate)
    evaluate.add_argument("--json", metavar="FILE", help="write the scores as JSON too")

    predict = _verb(verbs, "predict", _predict, "label maps and overlays of images")
    predict.add_argument("model", metavar="MODEL.keras")
    predict.add_argument("pictures", nargs="+", metavar="IMAGE")
    predict.add_argument("--opacity", type=float, default=0.5, help="of the overlay")
    predict.add_argument("--out", required=True, metavar="DIR")

    export = _verb(verbs, "export", _export, "a checked file for phones")
    export.add_argument("model", metavar="MODEL.keras")
    export.add_argument("--to", choices=("tflite",), default="tflite")
    _add_size(export)
    export.add_argument("--output", choices=("logits", "labels"), default="logits")
    export.add_argument("--out", required=True, metavar="FILE")

    profile = _verb(verbs, "profile", _profile, "parameters and multiply-accumulates")
    profile.add_argument("model", metavar="MODEL", help="a name, or a .keras file")
    _add_size(profile)
    profile.add_argument("--num-classes", type=_positive, default=150)
    _add_classifier(profile)
    profile.add_argument("--json", action="store_true", help="one JSON object")

    mine = _verb(verbs, "mine", _mine, "the ideal class representations of each image")
    mine.add_argument("model", metavar="MODEL.keras")
    _add_data(mine)
    mine.add_argument(
        "--rcond",
        type=float,
        default=1e-5,
        help="share of the features' largest singular value below which others count "
        "as zero (default 1e-5)",
    )
    mine.add_argument(
        "--out", required=True, metavar="DIR", help="for a table and two pictures"
    )

    convert = _verb(verbs, "convert", _convert, "a published checkpoint as .keras")
    convert.add_argument("model", metavar="MODEL", help="for example LRFormerS")
    convert.add_argument("source", metavar="FILE.pth")
    convert.add_argument("out", metavar="FILE.keras")
    convert.add_argument(
        "--num-classes", type=_positive, help="default: the checkpoint's"
    )
    convert.add_argument("--reset-head", action="store_true", help="other classes")
    return parser


def _verb(verbs, name, run, summary):
    verb = verbs.add_parser(
        name,
        help=summary,
        description=summary.capitalize() + ".",
        epilog=f"example: {EXAMPLES[name]}",
    )
    verb.add_argument(
        "--traceback", action="store_true", help="show where an error came from"
    )
    verb.set_defaults(run=run, interrupted="Interrupted.")
    return verb


def _add_data(verb):
    verb.add_argument("--images", required=True, metavar="DIR")
    verb.add_argument(
        "--masks", required=True, metavar="DIR", help="PNG of train ids, 255 ignored"
    )
    verb.add_argument(
        "--classes", metavar="FILE", help='a name a line, optionally "name #rrggbb"'
    )


def _add_classifier(verb):
    verb.add_argument(
        "--classifier",
        choices=("pixel", "offset"),
        help="1×1 convolution or Offset Learning (default: the model's own)",
    )


def _add_size(verb):
    verb.add_argument(
        "--size",
        type=_positive,
        nargs=2,
        required=True,
        metavar=("H", "W"),
        help="height and width in pixels",
    )


def _positive(text):
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {value}")
    return value


if __name__ == "__main__":
    sys.exit(main())
