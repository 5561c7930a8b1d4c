"""Exported files: written, run in their own runtime, compared, and only then kept."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterable

import keras
import numpy as np

from keras_lrseg.data import SegmentationDataset, load_demo
from keras_lrseg.evaluation import check_classes, resize_image
from keras_lrseg.export.check import Report, check, size_mib
from keras_lrseg.export.convert import convert
from keras_lrseg.export.half_precision import in_float32
from keras_lrseg.export.interface import Interface, is_segmenter
from keras_lrseg.export.metadata import add_metadata, text_files
from keras_lrseg.export.operators import read_operators
from keras_lrseg.export.quantize import check_precision, quantize
from keras_lrseg.export.require import require
from keras_lrseg.export.target import check_target, replacing
from keras_lrseg.layers.offset_learning import notices

COMPARED = 4  # images, when none are given
# Of an ONNX file: below it the last maps are a pixel high, and tf2onnx takes one of
# their axes for another.
ONNX_SIDE = 64


def export_tflite(
    model: keras.Model,
    path: str | pathlib.Path,
    size: tuple[int, int],
    output: str = "logits",
    precision: str = "float32",
    input: str = "uint8",
    full_size: bool | None = None,
    calibration: Iterable[np.ndarray] | None = None,
    images: Iterable[np.ndarray] | None = None,
    dataset: SegmentationDataset | None = None,
    allow_any_operator: bool = False,
) -> Report:
    """Write a TFLite (LiteRT) file for phones and browsers, and check it.

    The file takes one image, (1, H, W, 3), is made of built-in operators and of tensors
    of known size and at most four axes, and its metadata name the classes and, with
    Offset Learning, the patent notice. Before it is kept it is run in LiteRT and
    compared with the model: in float32 no output differs by more than 1e-3 of their
    standard deviation, and 99.9 % of the labels are equal; for other precisions the
    report says how many are. A file that fails is not kept; one that was there stays.

    Args:
        model: a segmenter or image classifier of this library, on any backend, of any
            dtype policy.
        path: of the file, ending in `.tflite`.
        size: (height, width) of the images in pixels, fixed in the file.
        output, input, full_size: of `Interface`.
        precision: of `quantize`.
        calibration: for "int8", images as the file will see them, to take the ranges
            of values from: some dozens of uint8 (H, W, 3), of any size.
        images: to compare on, uint8 (H, W, 3) of any size; None for four of `dataset`,
            else of `calibration`, else of the demo data, which are no pictures of
            yours.
        dataset: labelled images to score model and file on; None for no scores.
        allow_any_operator: keep a file that not every phone runs; with operators that
            LiteRT lacks, without running it.

    Raises:
        ValueError: if an argument is wrong or the file fails a check.
        OSError: if the file cannot be written where it should go.
        ImportError: if a library is missing.
    """
    path = check_target(path, "tflite")
    interface = Interface(size, output, input, full_size)
    interface.check_model(model)
    calibration = [] if calibration is None else list(calibration)
    check_precision(precision, calibration)
    about = _description(model, interface)
    text_files(about["labels"], about["palette"], model.num_classes)  # raises
    needed = ["tensorflow", "ai_edge_litert"]
    if precision != "float32":
        needed.append("ai_edge_quantizer")

    def write(model, file):
        convert(model, file, "tflite", interface)
        content = file.read_bytes()
        if precision != "float32":
            pictures = [resize_image(x, interface.size) for x in calibration]
            content = quantize(content, precision, pictures)
        file.write_bytes(add_metadata(content, **about))
        return read_operators(file, allow_any_operator)

    exact = precision == "float32"
    if images is None and dataset is None and calibration:
        images = calibration[:COMPARED]
    return _export(model, path, interface, needed, write, images, dataset, exact)


def export_onnx(
    model: keras.Model,
    path: str | pathlib.Path,
    size: tuple[int, int],
    output: str = "logits",
    input: str = "uint8",
    full_size: bool | None = None,
    images: Iterable[np.ndarray] | None = None,
    dataset: SegmentationDataset | None = None,
) -> Report:
    """Write an ONNX file, of opset 18, and compare it in onnxruntime.

    It takes one image, (1, H, W, 3), of at least 64×64 pixels. Arguments, checks and
    errors are those of `export_tflite`; the path ends in `.onnx`.
    """
    path = check_target(path, "onnx")
    interface = Interface(size, output, input, full_size)
    interface.check_model(model)
    if min(interface.size) < ONNX_SIDE:
        height, width = (max(side, ONNX_SIDE) for side in interface.size)
        raise ValueError(
            f"An ONNX file takes sides of at least {ONNX_SIDE} pixels. Received: "
            f"{interface.size}; the nearest is size=({height}, {width}) (--size "
            f"{height} {width})"
        )

    def write(model, file):
        convert(model, file, "onnx", interface)

    needed = ["tensorflow", "onnx", "tf2onnx", "onnxruntime"]
    return _export(model, path, interface, needed, write, images, dataset)


def export_saved_model(
    model: keras.Model,
    path: str | pathlib.Path,
    size: tuple[int, int],
    output: str = "logits",
    input: str = "uint8",
    full_size: bool | None = None,
    images: Iterable[np.ndarray] | None = None,
    dataset: SegmentationDataset | None = None,
) -> Report:
    """Write a TensorFlow SavedModel and compare it in a process of its own.

    Its signature "serving_default" takes any number of images, (B, H, W, 3). Arguments,
    checks and errors are those of `export_tflite`; the path is that of a folder.

    Raises:
        FileExistsError: if there is something else, or a SavedModel with other files.
    """
    path = check_target(path, "saved_model")
    interface = Interface(size, output, input, full_size)
    interface.check_model(model)

    def write(model, folder):
        convert(model, folder, "saved_model", interface)

    return _export(model, path, interface, ["tensorflow"], write, images, dataset)


def _export(
    model, path, interface, needed, write: Callable, images, dataset, exact=True
) -> Report:
    """Write a file under a temporary name, check it and give it its own name."""
    if dataset is not None:
        check_scored(model)
        check_classes(model, dataset)
    if images is None:
        source = load_demo("validation") if dataset is None else dataset
        images = [source[i][0] for i in range(min(COMPARED, len(source)))]
    images = list(images)
    if not images:
        raise ValueError(
            "images expects at least one uint8 (H, W, 3) to compare on, or None for "
            "demo data. Received: none"
        )
    require(*needed)
    model = in_float32(model)
    with replacing(path) as temporary:
        operators = write(model, temporary)
        if operators and operators.foreign:
            report = Report(path, size_mib(temporary))
        else:
            report = check(model, temporary, interface, images, exact, dataset)
    return dataclasses.replace(report, path=path, operators=operators)


def check_scored(model: keras.Model) -> None:
    """Raise a ValueError if no labelled images can score it: an image classifier."""
    if not is_segmenter(model):
        raise ValueError(
            "An image classifier gives no masks that labelled images could score. "
            "Leave out `dataset` (--images, --masks)."
        )


def _description(model, interface):
    """What a file says of itself."""
    parts = [f"{model.name}, {model.num_classes} classes", *notices(model)]
    classes = model.classes
    if classes is None:
        classes = [f"class {i}" for i in range(model.num_classes)]
    return {
        "name": model.name,
        "description": ". ".join(parts),
        "output": interface.output,
        "labels": classes,
        "palette": getattr(model, "palette", None),
    }
