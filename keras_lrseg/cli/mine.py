"""`keras-lrseg mine`: the ideal class representations of each image."""

import pathlib

from keras_lrseg.cli.options import add_data, labelled, progress

SUMMARY = "the ideal class representations of each image"
EXAMPLE = (
    "keras-lrseg mine runs/street/model.keras --images val/images "
    "--masks val/masks --out mined"
)


def add_arguments(parser):
    parser.add_argument("model", metavar="MODEL.keras")
    add_data(parser)
    parser.add_argument(
        "--rcond",
        type=float,
        default=1e-5,
        help="share of the features' largest singular value below which others count "
        "as zero (default 1e-5)",
    )
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="for a table and two pictures"
    )


def run(arguments):
    from keras_lrseg import analysis, checkpoints, data

    model = checkpoints.load_model(arguments.model)
    dataset = labelled(arguments, model)
    folder = pathlib.Path(arguments.out)
    folder.mkdir(parents=True, exist_ok=True)
    mined = analysis.mine_class_representations(
        model, dataset, progress, arguments.rcond
    )
    print(mined)
    with data.atomic_path(folder / "mined.json") as temporary:
        temporary.write_text(mined.to_json() + "\n")
    analysis.similarity_matrices(mined, folder / "similarity.png")
    analysis.similarity_maps(
        model, dataset, folder / "maps.png", mined.examples(), rcond=arguments.rcond
    )
