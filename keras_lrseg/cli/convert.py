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

    training.model_path(arguments.out)  # refused now, not after the work
    settings = checkpoints.published_settings(arguments.source)
    kind, fitting = _models_of(settings)
    known = {**models.SEGMENTERS, **models.CLASSIFIERS}
    if arguments.model in known.keys() - fitting:
        raise ValueError(f"{arguments.source} holds {kind}, {arguments.model} is none.")
    if arguments.num_classes:
        settings["num_classes"] = arguments.num_classes
    model = models.make(
        arguments.model,
        weights=arguments.source,
        reset_head=arguments.reset_head,
        **settings,
    )
    training.save_model(model, arguments.out)
    print(f"{arguments.out}: {arguments.model} with {model.num_classes} classes")


def _models_of(settings):
    """What the settings of a checkpoint make, in words and as names of models."""
    from keras_lrseg.models import CLASSIFIERS, MASK_SEGMENTERS, SEGMENTERS

    if "classifier" not in settings:
        return "an image classifier", {*CLASSIFIERS}
    if "num_queries" in settings:
        return "a segmenter of masks", {*MASK_SEGMENTERS}
    return "a segmenter of pixels", SEGMENTERS.keys() - MASK_SEGMENTERS.keys()
