"""`keras-lrseg export`: a checked file for phones."""

import os

from keras_lrseg.cli.options import add_size

SUMMARY = "a checked file for phones"
EXAMPLE = (
    "keras-lrseg export runs/street/model.keras --to tflite --size 512 512 "
    "--out street.tflite"
)


def add_arguments(parser):
    parser.add_argument("model", metavar="MODEL.keras")
    parser.add_argument("--to", choices=("tflite",), default="tflite")
    add_size(parser)
    parser.add_argument("--output", choices=("logits", "labels"), default="logits")
    parser.add_argument("--out", required=True, metavar="FILE")


def run(arguments):
    # The converter is TensorFlow's, whatever backend trained the model.
    os.environ["KERAS_BACKEND"] = "tensorflow"
    from keras_lrseg import checkpoints, export

    model = checkpoints.load_model(arguments.model)
    report = export.export_tflite(
        model, arguments.out, tuple(arguments.size), arguments.output
    )
    print(f"{arguments.out}: {report}")
