"""`keras-lrseg export`: a checked file for phones, browsers and servers."""

import os

from keras_lrseg.cli.options import add_size, classes_of

SUMMARY = "a checked file for phones, browsers and servers"
EXAMPLE = (
    "keras-lrseg export runs/street/model.keras --to tflite --size 512 512 "
    "--output labels --out street.tflite"
)

CALIBRATION_IMAGES = 100  # more change the ranges little


def add_arguments(parser):
    parser.add_argument("model", metavar="MODEL.keras")
    parser.add_argument(
        "--to",
        choices=("tflite", "onnx", "saved_model"),
        default="tflite",
        help="TFLite for phones and browsers (the default), ONNX, or a SavedModel",
    )
    add_size(parser)
    parser.add_argument(
        "--output",
        choices=("logits", "labels", "confidence"),
        default="logits",
        help="logits (the default), the class of each pixel, or the softmax",
    )
    parser.add_argument(
        "--input",
        choices=("uint8", "float32"),
        default="uint8",
        help="RGB 0..255, as bytes (the default) or floating-point numbers",
    )
    parser.add_argument(
        "--full-size",
        action="store_true",
        default=None,
        help="at the images' size (confidence always is), not at the decoder's stride",
    )
    parser.add_argument(
        "--precision",
        choices=("float32", "float16", "weight_int8", "dynamic_int8", "int8"),
        default="float32",
        help="of a TFLite file (default float32)",
    )
    parser.add_argument(
        "--calibration",
        metavar="DIR",
        help="images to take the ranges of int8 from, and to compare on",
    )
    parser.add_argument(
        "--images",
        metavar="DIR",
        help="labelled images to compare and score on (default: compare on four of "
        "--calibration, or of the demo data)",
    )
    parser.add_argument("--masks", metavar="DIR", help="their PNG of train ids")
    parser.add_argument(
        "--allow-any-operator",
        action="store_true",
        help="keep a TFLite file that not every phone runs",
    )
    parser.add_argument("--out", required=True, metavar="FILE")


def run(arguments):
    # The converters are TensorFlow's, whatever backend trained the model.
    os.environ["KERAS_BACKEND"] = "tensorflow"
    from keras_lrseg import checkpoints, data, export
    from keras_lrseg.export.export import COMPARED, check_scored
    from keras_lrseg.export.target import check_target

    _check_options(arguments)
    path = check_target(arguments.out, arguments.to)
    model = checkpoints.load_model(arguments.model)
    settings = {
        "output": arguments.output,
        "input": arguments.input,
        "full_size": arguments.full_size,
    }
    if arguments.images:
        check_scored(model)  # before its classes, too many or few for masks, are
        settings["dataset"] = data.SegmentationDataset.from_folders(
            arguments.images, arguments.masks, classes_of(model)
        )
    if arguments.to == "tflite":
        settings["precision"] = arguments.precision
        settings["allow_any_operator"] = arguments.allow_any_operator
        if arguments.calibration:
            settings["calibration"] = data.load_images(
                arguments.calibration, CALIBRATION_IMAGES
            )
    elif arguments.calibration:
        settings["images"] = data.load_images(arguments.calibration, COMPARED)
    write = getattr(export, f"export_{arguments.to}")
    print(write(model, path, arguments.size, **settings))


def _check_options(arguments):
    """Refuse options that miss another one, or would have no effect."""
    if bool(arguments.images) != bool(arguments.masks):
        raise ValueError("Scores need both --images and --masks.")
    both = arguments.calibration and arguments.images
    if both and not (arguments.to == "tflite" and arguments.precision == "int8"):
        raise ValueError(
            f"--calibration has no effect beside --images with --to {arguments.to} "
            f"--precision {arguments.precision}: the file is compared on those. Leave "
            "out one of them."
        )
    if arguments.to == "tflite":
        return
    for option, given in (
        (f"--precision {arguments.precision}", arguments.precision != "float32"),
        ("--allow-any-operator", arguments.allow_any_operator),
    ):
        if given:
            raise ValueError(
                f"{option} is for --to tflite only. Received: --to {arguments.to}"
            )
