"""From a model to a file: the graph that is exported, and the three converters.

All of it is TensorFlow's work. On JAX and PyTorch it is done by a process of its own,
which opens the saved model on the TensorFlow backend.
"""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import keras
import numpy as np
from keras import ops

from keras_lrseg.export.interface import Interface, is_segmenter
from keras_lrseg.layers import MSCABlock

OPSET = 18  # of ONNX


def convert(model: keras.Model, path: pathlib.Path, to: str, interface: Interface):
    """Write a model of float32 as "tflite", "onnx" or "saved_model", unchecked.

    Raises:
        ValueError: with the converter's message, if it fails.
    """
    if keras.config.backend() == "tensorflow":
        WRITERS[to](model, path, interface)
    else:
        _convert_in_tensorflow(model, path, to, interface)


def _convert_in_tensorflow(model, path, to, interface):
    with tempfile.TemporaryDirectory() as folder:
        saved = pathlib.Path(folder) / "model.keras"
        model.save(saved)
        settings = json.dumps(dataclasses.asdict(interface))
        command = [sys.executable, "-m", "keras_lrseg.export"]
        command += [str(saved), str(path.absolute()), to, settings, *_modules(model)]
        environment = {
            **os.environ,
            "KERAS_BACKEND": "tensorflow",
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        run = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False
        )
    if run.returncode:
        raise ValueError((run.stderr.strip().splitlines() or ["export failed"])[-1])


def _modules(model):
    """The modules that define a model's layers; a user's own must be imported again."""
    kinds = {type(layer) for layer in model._flatten_layers()}
    if lost := sorted(k.__name__ for k in kinds if k.__module__ == "__main__"):
        raise ValueError(
            f"TensorFlow, which converts in a process of its own, cannot import "
            f"{', '.join(lost)} from a script. Define it in a module that the script "
            "imports, or export with KERAS_BACKEND=tensorflow."
        )
    return sorted({kind.__module__ for kind in kinds})


def for_inference(model, interface):
    """Return a function that prepares images, and the rest up to the logits, a copy.

    The images' division by their deviation goes into the kernel of the first
    convolution, whose padding of zeros does not mind. It would mind the mean, which
    stays. Converters fold a batch normalization into what is in front of it; SegNeXt's
    blocks, which have them in front of the linear maps, have a form of their own.
    """
    copy = type(model).from_config(model.get_config())
    copy.set_weights(model.get_weights())
    for layer in copy._flatten_layers():
        if isinstance(layer, MSCABlock):
            layer.call = layer.infer
    preprocessing = copy.get_layer("preprocessing")
    rest = keras.Model(preprocessing.output, interface.logits(copy))
    if not type(model.backbone).__module__.startswith("keras_lrseg."):
        return preprocessing, rest  # of a backbone that is not known to begin so
    (kernel,) = (v for v in copy.backbone.weights if v.shape[2:3] == (3,))
    deviation = ops.reshape(ops.sqrt(preprocessing.variance), (3, 1))
    kernel.assign(kernel / deviation)
    return lambda x: x - preprocessing.mean, rest


def inference_module(model, interface, batch=1):
    """Return a `tf.Module` with the function `serve`, which is what is exported."""
    import tensorflow as tf

    prepare, rest = for_inference(model, interface)
    images = tf.TensorSpec((batch, *interface.size, 3), interface.input, name="image")

    @tf.function(input_signature=[images], autograph=False)
    def infer(image):
        x = rest(prepare(tf.cast(image, tf.float32)), training=False)
        if interface.output == "confidence":
            x = tf.nn.softmax(x)
        if interface.output == "labels":
            # keras.ops.argmax would need an operator beyond TFLite's built-in ones.
            x = tf.argmax(x, axis=-1, output_type=tf.int32)
            x = tf.cast(x, tf.uint8 if is_segmenter(model) else tf.int32)
        return {interface.output: x}

    module = tf.Module()
    module.serve, module.weights = infer, [weight.value for weight in rest.weights]
    return module


def _write_tflite(model, path, interface):
    import tensorflow as tf

    # The batch size is fixed, or the delegate gives up on most of the graph. The module
    # itself is not passed on: with a model the file computes NaN.
    module = inference_module(model, interface)
    function = module.serve.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    try:
        content = converter.convert()
    except Exception:  # of a private class
        # With all operators the file is written, and they can be named.
        converter.target_spec.supported_ops.append(tf.lite.OpsSet.SELECT_TF_OPS)
        converter.allow_custom_ops = True
        content = converter.convert()
    path.write_bytes(content)


def _write_onnx(model, path, interface):
    import onnx
    import tf2onnx
    from tensorflow.python.framework import convert_to_constants

    module = inference_module(model, interface)
    function = module.serve.get_concrete_function()
    # tf2onnx, left to itself, makes inputs of the weights.
    frozen = convert_to_constants.convert_variables_to_constants_v2(
        function, lower_control_flow=False
    )
    converted, _ = tf2onnx.convert.from_graph_def(
        frozen.graph.as_graph_def(add_shapes=True),
        input_names=[x.name for x in frozen.inputs],
        output_names=[x.name for x in frozen.outputs],
        tensors_to_rename={
            frozen.inputs[0].name: "image",
            frozen.outputs[0].name: interface.output,
        },
        opset=OPSET,
    )
    _resize_to_sizes(converted)
    onnx.save(converted, path)


def _resize_to_sizes(converted):
    """Name the sizes that an ONNX model's maps are resized to.

    tf2onnx gives the factors, and size times factor, which are rounded, may end just
    below a whole number, of which the part behind the point is cut off.
    """
    import onnx
    from onnx import numpy_helper

    constants = {x.name: x for x in converted.graph.initializer}
    for node in converted.graph.node:
        if node.op_type != "Resize":
            continue
        # What lies behind a map of a wrong size has no shape, hence one after another.
        shapes = {
            value.name: [axis.dim_value for axis in value.type.tensor_type.shape.dim]
            for value in onnx.shape_inference.infer_shapes(converted).graph.value_info
        }
        factors = numpy_helper.to_array(constants[node.input[2]])
        sizes = np.rint(factors * shapes[node.input[0]]).astype("int64")
        name = f"{node.name}_sizes"
        converted.graph.initializer.append(numpy_helper.from_array(sizes, name))
        node.input[:] = [node.input[0], "", "", name]


def _write_saved_model(model, path, interface):
    import tensorflow as tf

    module = inference_module(model, interface, batch=None)
    tf.saved_model.save(module, str(path), {"serving_default": module.serve})


WRITERS = {
    "tflite": _write_tflite,
    "onnx": _write_onnx,
    "saved_model": _write_saved_model,
}
