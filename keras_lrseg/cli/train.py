"""`keras-lrseg train`: train a model by a recipe, or on a folder of images."""

import dataclasses
import pathlib

from keras_lrseg.cli.options import positive, progress_callback

SUMMARY = "train a model by a recipe, or on a folder of images"
EXAMPLE = (
    "keras-lrseg train --model LRFormerT --images street/images --masks "
    "street/masks --classes street/classes.txt --crop 512 512 --batch 8 --steps 20000 "
    "--out runs/street"
)
INTERRUPTED = (
    "Interrupted. The same command with --resume goes on from the last checkpoint."
)


def add_arguments(parser):
    parser.add_argument(
        "recipe",
        nargs="?",
        metavar="RECIPE.py",
        help="for example recipes/ade20k.py; without one, images and masks of your own",
    )
    parser.add_argument(
        "--model", required=True, help="for example LRFormerT; with a recipe, its row"
    )
    parser.add_argument(
        "--out", metavar="DIR", help="folder of the run (default runs/RECIPE-MODEL)"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a number of the recipe; a wrong KEY lists them all",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print the plan, cost and what is missing",
    )
    parser.add_argument("--resume", action="store_true", help="go on with --out")
    parser.add_argument(
        "--skip-corrupt", action="store_true", help="leave out unreadable images"
    )
    parser.add_argument(
        "--distribution",
        choices=("none", "data", "model"),
        default="none",
        help="data: a part of every batch on each device (docs/distribution.md)",
    )
    _add_short_forms(parser.add_argument_group("short forms of --set"))


def _add_short_forms(group):
    """Options whose `dest` is a field of the recipe; None where they are not given."""
    add = group.add_argument
    add("--images", metavar="DIR")
    add("--masks", metavar="DIR", help="PNG of train ids, 255 ignored")
    add("--val-images", metavar="DIR", help="images to score on")
    add("--val-masks", metavar="DIR", help="their masks")
    add("--classes", metavar="FILE", help='a name a line, optionally "name #rrggbb"')
    add("--root", metavar="DIR", help="folder of a public data set")
    add(
        "--classifier",
        choices=("pixel", "offset"),
        help="1×1 convolution or Offset Learning (default: the model's own)",
    )
    add(
        "--crop",
        type=positive,
        nargs=2,
        metavar=("H", "W"),
        help="training crop in pixels (default 512 512)",
    )
    add("--batch", type=positive, dest="batch_size", help="images a step (default 8)")
    add("--steps", type=positive, help="whole training")
    add(
        "--epoch-steps",
        type=positive,
        help="steps from one checkpoint to the next (default 500)",
    )
    add(
        "--learning-rate",
        type=float,
        help="the peak (default 6e-5 from given weights, 1e-3 from scratch)",
    )
    add("--weights", metavar="FILE", help="start from a whole model")
    add("--backbone-weights", metavar="FILE", help="from a backbone")
    add(
        "--reset-head",
        action="store_true",
        default=None,
        help="with --weights: new classes",
    )
    add("--precision", choices=("float32", "mixed_bfloat16", "mixed_float16"))
    add("--seed", type=int, help="of weights, data order and augmentation (default 0)")


def run(arguments):
    from keras_lrseg import training

    recipe = _recipe(arguments)
    out = arguments.out or f"runs/{_name(arguments)}"
    if arguments.dry_run:
        print(
            training.plan(
                recipe,
                out,
                resume=arguments.resume,
                distribution=arguments.distribution,
            )
        )
        return
    training.launch(
        recipe,
        out,
        resume=arguments.resume,
        skip_corrupt=arguments.skip_corrupt,
        distribution=arguments.distribution,
        progress=progress_callback,
    )


def _name(arguments) -> str:
    """What the folder of a run is called: ade20k-LRFormerS-ablation, or LRFormerT."""
    recipe = [pathlib.Path(arguments.recipe).stem] if arguments.recipe else []
    return "-".join([*recipe, *arguments.model.split("/")])


def _recipe(arguments):
    """The recipe of the file, or one for a folder, with what was typed."""
    from keras_lrseg import training

    if not arguments.recipe:
        values = _typed(arguments, training.SegmentationRecipe)
        if "steps" not in values:
            raise ValueError("Type --steps N, the length of the training.")
        pretrained = values.get("weights") or values.get("backbone_weights")
        defaults = {
            "model": arguments.model,
            "dataset": "folders",
            "crop": (512, 512),
            "batch_size": 8,
            "learning_rate": 6e-5 if pretrained else 1e-3,
        }
        return training.SegmentationRecipe(**{**defaults, **values})
    recipes = training.load_recipes(arguments.recipe)
    if arguments.model not in recipes:
        raise ValueError(
            f"{arguments.recipe} has no model {arguments.model!r}. Choose from "
            f"{', '.join(recipes)}."
        )
    recipe = recipes[arguments.model]
    return dataclasses.replace(recipe, **_typed(arguments, type(recipe)))


def _typed(arguments, kind):
    """The fields of a recipe that were typed, in either form."""
    from keras_lrseg import training

    # Every short form is a field of this class; of another it may be none.
    short_forms = {f.name for f in dataclasses.fields(training.SegmentationRecipe)}
    values = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in vars(arguments).items()
        if name in short_forms - {"model"} and value is not None
    }
    if unfit := values.keys() - {field.name for field in dataclasses.fields(kind)}:
        raise ValueError(f"This recipe has no setting {', '.join(sorted(unfit))}.")
    settings = {}
    for item in arguments.set:
        key, equals, value = item.partition("=")
        if not equals:
            raise ValueError(f"--set expects KEY=VALUE. Received: {item!r}")
        settings[key] = value
    if twice := sorted(values.keys() & settings.keys()):
        raise ValueError(f"{', '.join(twice)}: typed twice, as an option and in --set.")
    return {**values, **kind.parse(settings)}
