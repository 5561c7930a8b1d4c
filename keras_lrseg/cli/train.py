"""`keras-lrseg train`: train a model by a recipe, or on a folder of images."""

import dataclasses

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
SHORT_FORMS = (
    *("images", "masks", "val_images", "val_masks", "classes", "root", "classifier"),
    *("crop", "batch_size", "steps", "epoch_steps", "learning_rate", "weights"),
    *("backbone_weights", "reset_head", "precision", "seed"),
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
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the run")
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
    if arguments.dry_run:
        print(training.plan(recipe, arguments.out))
        return
    training.launch(
        recipe,
        arguments.out,
        resume=arguments.resume,
        skip_corrupt=arguments.skip_corrupt,
        distribution=arguments.distribution,
        progress=progress_callback,
    )


def _recipe(arguments):
    """The recipe of the file, or one for a folder, with what was typed."""
    from keras_lrseg import training

    if arguments.recipe:
        recipes = training.load_recipes(arguments.recipe)
        if arguments.model not in recipes:
            raise ValueError(
                f"{arguments.recipe} has no model {arguments.model!r}. Choose from "
                f"{', '.join(recipes)}."
            )
        recipe = recipes[arguments.model]
    elif not arguments.steps:
        raise ValueError("Type --steps N, the length of the training.")
    else:
        pretrained = arguments.weights or arguments.backbone_weights
        recipe = training.SegmentationRecipe(
            model=arguments.model,
            dataset="folders",
            crop=(512, 512),
            batch_size=8,
            steps=arguments.steps,
            learning_rate=6e-5 if pretrained else 1e-3,
        )
    fields = {field.name for field in dataclasses.fields(recipe)} - {"model"}
    given = {k: v for k, v in vars(arguments).items() if v is not None}
    typed = {name: given[name] for name in SHORT_FORMS if name in given}
    if unfit := sorted(typed.keys() - fields):
        raise ValueError(f"This recipe has no setting {', '.join(unfit)}.")
    if "crop" in typed:
        typed["crop"] = tuple(typed["crop"])
    settings = {}
    for item in arguments.set:
        key, equals, value = item.partition("=")
        if not equals:
            raise ValueError(f"--set expects KEY=VALUE. Received: {item!r}")
        settings[key] = value
    return dataclasses.replace(recipe, **typed).with_settings(settings)
