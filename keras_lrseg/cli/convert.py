"""`keras-lrseg convert`: a published checkpoint as .keras."""

from keras_lrseg.cli.options import positive

SUMMARY = "a published checkpoint as .keras"
EXAMPLE = "keras-lrseg convert LRFormerS lrformer_s_ade20k.pth lrformer_s.keras"


def add_arguments(parser):
    parser.add_argument("model", metavar="MODEL", help="for example LRFormerS")
    parser.add_argument("source", metavar="FILE.pth")
    parser.add_argument("out", metavar="FILE.keras")
    parser.add_argument(
        "--num-classes", type=positive, help="default: the checkpoint's"
    )
    parser.add_argument("--reset-head", action="store_true", help="other classes")


def run(arguments):
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
