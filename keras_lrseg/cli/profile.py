"""`keras-lrseg profile`: parameters and multiply-accumulates."""

from keras_lrseg.cli.options import add_classifier, add_size, classifier, positive

SUMMARY = "parameters and multiply-accumulates"
EXAMPLE = "keras-lrseg profile LRFormerS --size 512 512 --num-classes 150"


def add_arguments(parser):
    parser.add_argument("model", metavar="MODEL", help="a name, or a .keras file")
    add_size(parser)
    parser.add_argument(
        "--num-classes", type=positive, help="of a model by name (default 150)"
    )
    add_classifier(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(arguments):
    from keras_lrseg import analysis, checkpoints, models

    settings = classifier(arguments)
    if not arguments.model.endswith(".keras"):
        model = models.make(
            arguments.model, num_classes=arguments.num_classes or 150, **settings
        )
    elif settings or arguments.num_classes:
        raise ValueError(
            "--classifier and --num-classes go with a model's name, not with a file."
        )
    else:
        model = checkpoints.load_model(arguments.model)
    profile = analysis.profile(model, tuple(arguments.size))
    print(profile.to_json() if arguments.json else profile)
