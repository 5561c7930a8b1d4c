"""The conversion of a saved model, for backends that leave it to TensorFlow.

`python -m keras_lrseg.export MODEL.keras TARGET tflite|onnx|saved_model INTERFACE.json
MODULE ...`, the modules that define the model's layers.
"""

import importlib
import json
import pathlib
import sys

from keras_lrseg.checkpoints import load_model
from keras_lrseg.export.convert import convert
from keras_lrseg.export.interface import Interface

if __name__ == "__main__":
    source, target, to, settings, *modules = sys.argv[1:]
    for module in modules:
        importlib.import_module(module)
    interface = Interface(**json.loads(settings))
    convert(load_model(source), pathlib.Path(target), to, interface)
