"""The conversion of a saved model, for backends that leave it to TensorFlow.

`python -m keras_lrseg.export MODEL.keras TARGET tflite|onnx|saved_model INTERFACE.json`
"""

import json
import pathlib
import sys

from keras_lrseg.checkpoints import load_model
from keras_lrseg.export.convert import convert
from keras_lrseg.export.interface import Interface

if __name__ == "__main__":
    source, target, to, settings = sys.argv[1:]
    interface = Interface(**json.loads(settings))
    convert(load_model(source), pathlib.Path(target), to, interface)
