"""`keras-lrseg evaluate`: score a model on labelled images."""

from keras_lrseg.cli.options import add_data, classes_of, progress

SUMMARY = "score a model on labelled images"
EXAMPLE = (
    "keras-lrseg evaluate runs/street/model.keras --images val/images "
    "--masks val/masks --json scores.json"
)


def add_arguments(parser):
    parser.add_argument("model", metavar="MODEL.keras")
    add_data(parser)
    parser.add_argument("--json", metavar="FILE", help="write the scores as JSON too")


def run(arguments):
    from keras_lrseg import checkpoints, data, evaluation

    model = checkpoints.load_model(arguments.model)
    dataset = data.SegmentationDataset.from_folders(
        arguments.images, arguments.masks, arguments.classes or classes_of(model)
    )
    scores = evaluation.evaluate(model, dataset, progress)
    print(scores)
    if arguments.json:
        with data.atomic_path(arguments.json) as temporary:
            temporary.write_text(scores.to_json() + "\n")
