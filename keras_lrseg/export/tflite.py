"""TFLite (LiteRT) files that were run and compared before they are handed over."""

import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Sequence

import keras
import numpy as np

from keras_lrseg.data import atomic_path, load_demo

OUTPUTS = ("logits", "labels")

# The float file may differ from the model by this much.
MAX_DEVIATION = 1e-3  # of the logits' standard deviation
MIN_AGREEMENT = 0.999  # of the labels


def export_tflite(
    model: keras.Model,
    path: str | pathlib.Path,
    size: tuple[int, int],
    output: str = "logits",
    images: Sequence[np.ndarray] | None = None,
) -> str:
    """Write a segmenter as a TFLite file of built-in operators, and check it.

    The file takes uint8 RGB (1, H, W, 3) and gives, at the decoder's stride s, float32
    logits (1, H/s, W/s, K) or uint8 labels (1, H/s, W/s). It is run in LiteRT on real
    images and compared with the model; a file that disagrees is not kept. Its
    description names the model, the classes and, with Offset Learning, the patent
    notice. A model of
    half precision is exported, and compared, in float32. On JAX and PyTorch the work is
    done in a process of its own, on the TensorFlow backend.

    Args:
        model: a `SemanticSegmenter`.
        path: of the file, ending in `.tflite`.
        size: (height, width) of the images, in pixels; fixed in the file.
        output: "logits" or "labels".
        images: to compare on, uint8 (H, W, 3); None for four of the demo data.

    Returns:
        What was measured, in words.

    Raises:
        ValueError: if an argument is wrong or the file disagrees with the model.
        ImportError: if TensorFlow or LiteRT is missing.
    """
    path = pathlib.Path(path)
    _check_arguments(model, path, size, output)
    if keras.config.backend() != "tensorflow":
        return _export_in_tensorflow(model, path, size, output, images)
    _require("tensorflow", "ai_edge_litert")
    model = _in_float32(model)
    if images is None:
        images = _demo_images(size)
    with atomic_path(path) as temporary:
        temporary.write_bytes(_described(_convert(model, size, output), model))
        return _compare(model, temporary, output, images)


def run_tflite(path: str | pathlib.Path, image: np.ndarray) -> np.ndarray:
    """Run a TFLite file on one image in LiteRT.

    Args:
        path: of the file.
        image: uint8 (H, W, 3) of the file's size.

    Returns:
        The file's output without the batch axis.

    Raises:
        ValueError: if the image's shape is not the file's.
    """
    interpreter = _interpreter(path)
    return _run(interpreter, image)


def _check_arguments(model, path, size, output):
    if path.suffix != ".tflite":
        raise ValueError(f"The file's name must end in .tflite. Received: {path}")
    if output not in OUTPUTS:
        raise ValueError(f"output expects one of {OUTPUTS}. Received: {output!r}")
    if len(size) != 2 or min(size) < 32:
        raise ValueError(
            f"size expects (height, width) of at least 32 pixels. Received: {size}"
        )
    if not hasattr(model, "logits"):
        raise ValueError(
            "Only segmenters of this library are exported. "
            f"Received: {type(model).__name__}"
        )
    if not model.include_preprocessing:
        raise ValueError(
            "The exported file takes uint8 images: build the model with "
            "include_preprocessing=True."
        )


def _in_float32(model):
    """The model, rebuilt if parts compute in half precision: built-in operators do not.

    Weights of mixed policies are float32 anyway.
    """
    config = model.get_config()
    single = _float32_policies(config)
    if single == config:
        return model
    rebuilt = type(model).from_config(single)
    rebuilt.set_weights(model.get_weights())
    return rebuilt


def _float32_policies(config):
    """Copy a serialised configuration with float32 in place of every dtype policy."""
    if isinstance(config, dict):
        if config.get("class_name") == "DTypePolicy":
            return {**config, "config": {"name": "float32"}}
        return {key: _float32_policies(value) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return type(config)(map(_float32_policies, config))
    return config


def _convert(model, size, output):
    import tensorflow as tf

    at_stride = keras.Model(model.input, model.logits)

    # The batch size is fixed, or the delegate gives up on most of the graph.
    @tf.function(input_signature=[tf.TensorSpec((1, *size, 3), tf.uint8, name="image")])
    def infer(image):
        logits = at_stride(tf.cast(image, tf.float32), training=False)
        logits = tf.cast(logits, tf.float32)
        if output == "logits":
            return {"logits": logits}
        # keras.ops.argmax would need an operator beyond the built-in ones.
        labels = tf.argmax(logits, axis=-1, output_type=tf.int32)
        return {"labels": tf.cast(labels, tf.uint8)}

    # The model itself is not passed on: with it the file computes NaN.
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [infer.get_concrete_function()]
    )
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    return converter.convert()


def _described(content, model):
    """The file with a description of what it is: model, classes, patent notice."""
    from tensorflow.lite.tools import flatbuffer_utils

    graph = flatbuffer_utils.convert_bytearray_to_object(bytearray(content))
    parts = [f"{model.name}, {model.num_classes} classes"]
    if model.classes:
        parts.append(f"classes: {', '.join(model.classes)}")
    notices = [getattr(layer, "NOTICE", "") for layer in model._flatten_layers()]
    parts += dict.fromkeys(filter(None, notices))
    graph.description = ". ".join(parts)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(graph))


def _compare(model, path, output, images):
    """Run file and model on the same images; raise if they disagree."""
    interpreter = _interpreter(path)
    at_stride = keras.Model(model.input, model.logits)
    deviation, same, total = 0.0, 0, 0
    for image in images:
        expected = keras.ops.convert_to_numpy(at_stride(image[None], training=False))[0]
        got = _run(interpreter, image)
        if output == "logits":
            difference = np.abs(got - expected).max() / expected.std()
            deviation = float(np.maximum(deviation, difference))  # keeps a NaN
            got = got.argmax(-1)
        same += int((got == expected.argmax(-1)).sum())
        total += got.size
    agreement = same / total
    # NaN must fail too, hence the negation.
    if not (deviation <= MAX_DEVIATION and agreement >= MIN_AGREEMENT):
        raise ValueError(
            f"The exported file disagrees with the model: largest difference "
            f"{deviation:.1e} of the logits' standard deviation (allowed "
            f"{MAX_DEVIATION:.0e}), {agreement:.2%} equal labels (allowed "
            f"{MIN_AGREEMENT:.1%}). It was not kept."
        )
    return (
        f"{path.stat().st_size / 2**20:.2f} MiB; on {len(images)} images "
        f"{agreement:.2%} of the labels are the model's, largest difference "
        f"{deviation:.1e} of the logits' standard deviation"
    )


def _interpreter(path):
    _require("ai_edge_litert")
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=2)
    interpreter.allocate_tensors()
    return interpreter


def _run(interpreter, image):
    (taken,), (given,) = (
        interpreter.get_input_details(),
        interpreter.get_output_details(),
    )
    expected = tuple(int(n) for n in taken["shape"][1:])
    if expected != image.shape:
        raise ValueError(
            f"The file takes images of {expected}. Received: {image.shape}"
        )
    interpreter.set_tensor(taken["index"], image[None].astype(taken["dtype"]))
    interpreter.invoke()
    return interpreter.get_tensor(given["index"])[0]


def _demo_images(size, count=4):
    from PIL import Image

    dataset = load_demo("validation")
    images = (dataset[i][0] for i in range(count))
    return [np.asarray(Image.fromarray(x).resize(size[::-1])) for x in images]


def _export_in_tensorflow(model, path, size, output, images):
    with tempfile.TemporaryDirectory() as folder:
        saved = pathlib.Path(folder) / "model.keras"
        model.save(saved)
        arguments = [saved, path.absolute(), *size, output]
        if images is not None:
            arguments.append(pathlib.Path(folder) / "images.npz")
            np.savez(arguments[-1], *images)
        run = subprocess.run(
            [sys.executable, "-m", "keras_lrseg.export", *map(str, arguments)],
            env={**os.environ, "KERAS_BACKEND": "tensorflow"},
            capture_output=True,
            text=True,
            check=False,
        )
    if run.returncode:
        raise ValueError((run.stderr.strip().splitlines() or ["export failed"])[-1])
    return run.stdout.strip().splitlines()[-1]


def _require(*modules):
    import importlib

    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise ImportError(
                f"Exporting needs {module}. Type: pip install 'keras-lrseg[export]'"
            ) from error
