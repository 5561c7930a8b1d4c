"""Exported files: written, run in their own runtime, compared, and only then kept."""

import dataclasses
import importlib.util
import pathlib
import shutil
from collections.abc import Callable, Sequence

import keras
import numpy as np

from keras_lrseg.data import SegmentationDataset, atomic_path, load_demo
from keras_lrseg.evaluation import resize_image
from keras_lrseg.export.check import Report, check, size_mib
from keras_lrseg.export.convert import convert
from keras_lrseg.export.half_precision import in_float32
from keras_lrseg.export.interface import Interface
from keras_lrseg.export.metadata import add_metadata
from keras_lrseg.export.operators import read_operators
from keras_lrseg.export.quantize import check_precision, quantize

COMPARED = 4  # images, when none are given
SAVED_MODEL = {"saved_model.pb", "fingerprint.pb", "variables", "assets"}


def export_tflite(
    model: keras.Model,
    path: str | pathlib.Path,
    size: tuple[int, int],
    output: str = "logits",
    precision: str = "float32",
    input: str = "uint8",
    full_size: bool | None = None,
    calibration: Sequence[np.ndarray] | None = None,
    images: Sequence[np.ndarray] | None = None,
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
        ImportError: if a library is missing.
    """
    interface = Interface(tuple(size), output, input, full_size)
    check_precision(precision, calibration)
    needed = ["tensorflow", "ai_edge_litert"]
    if precision != "float32":
        needed.append("ai_edge_quantizer")

    def write(model, file):
        convert(model, file, "tflite", interface)
        content = file.read_bytes()
        if precision != "float32":
            pictures = [resize_image(x, interface.size) for x in calibration or ()]
            content = quantize(content, precision, pictures)
        file.write_bytes(add_metadata(content, **_description(model, interface)))
        return read_operators(file, allow_any_operator)

    path = _with_suffix(path, ".tflite")
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
    images: Sequence[np.ndarray] | None = None,
    dataset: SegmentationDataset | None = None,
) -> Report:
    """Write an ONNX file, of opset 18, and compare it in onnxruntime.

    It takes one image, (1, H, W, 3). Arguments, checks and errors are those of
    `export_tflite`; the path ends in `.onnx`.
    """
    interface = Interface(tuple(size), output, input, full_size)

    def write(model, file):
        convert(model, file, "onnx", interface)

    path, needed = _with_suffix(path, ".onnx"), ["tensorflow", "tf2onnx", "onnxruntime"]
    return _export(model, path, interface, needed, write, images, dataset)


def export_saved_model(
    model: keras.Model,
    path: str | pathlib.Path,
    size: tuple[int, int],
    output: str = "logits",
    input: str = "uint8",
    full_size: bool | None = None,
    images: Sequence[np.ndarray] | None = None,
    dataset: SegmentationDataset | None = None,
) -> Report:
    """Write a TensorFlow SavedModel and compare it in a process of its own.

    Its signature "serving_default" takes any number of images, (B, H, W, 3). Arguments,
    checks and errors are those of `export_tflite`; the path is that of a folder.

    Raises:
        FileExistsError: if there is something else, or a SavedModel with other files.
    """
    interface = Interface(tuple(size), output, input, full_size)
    path = pathlib.Path(path)
    if path.exists() and not _is_saved_model(path):
        raise FileExistsError(
            f"{path} exists and is not a SavedModel alone; name a new folder"
        )

    def write(model, folder):
        convert(model, folder, "saved_model", interface)

    return _export(model, path, interface, ["tensorflow"], write, images, dataset)


def _export(
    model, path, interface, needed, write: Callable, images, dataset, exact=True
) -> Report:
    """Write a file under a temporary name, check it and give it its own name."""
    _require(needed)
    interface.check_model(model)
    model = in_float32(model)
    if images is None:
        source = load_demo("validation") if dataset is None else dataset
        images = [source[i][0] for i in range(min(COMPARED, len(source)))]
    with atomic_path(path) as temporary:
        operators = write(model, temporary)
        if operators and operators.foreign:
            report = Report(path, size_mib(temporary))
        else:
            report = check(model, temporary, interface, images, exact, dataset)
        if temporary.is_dir() and path.exists():
            shutil.rmtree(path)  # no folder takes the place of one that is not empty
    return dataclasses.replace(report, path=path, operators=operators)


def _with_suffix(path, suffix):
    path = pathlib.Path(path)
    if path.suffix != suffix:
        raise ValueError(f"The file's name must end in {suffix}. Received: {path}")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; expected a file to write.")
    return path


def _is_saved_model(folder):
    """Whether it is a folder that holds a SavedModel and nothing else."""
    if folder.is_symlink() or not (folder / "saved_model.pb").exists():
        return False
    return {path.name for path in folder.iterdir()} <= SAVED_MODEL


def _description(model, interface):
    """What a file says of itself."""
    notices = (getattr(layer, "NOTICE", "") for layer in model._flatten_layers())
    parts = [f"{model.name}, {model.num_classes} classes", *filter(None, notices)]
    return {
        "name": model.name,
        "description": ". ".join(dict.fromkeys(parts)),
        "output": interface.output,
        "labels": model.classes or [f"class {i}" for i in range(model.num_classes)],
        "palette": getattr(model, "palette", None),
    }


def _require(modules):
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(
            f"Exporting needs {', '.join(missing)}. "
            "Type: pip install 'keras-lrseg[export]'"
        )
