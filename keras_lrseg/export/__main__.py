"""The export of a saved model, for backends that leave it to TensorFlow.

`python -m keras_lrseg.export MODEL.keras FILE.tflite HEIGHT WIDTH OUTPUT`
"""

import sys

from keras_lrseg.checkpoints import load_model
from keras_lrseg.export.tflite import export_tflite

if __name__ == "__main__":
    source, target, height, width, output = sys.argv[1:]
    size = (int(height), int(width))
    print(export_tflite(load_model(source), target, size, output))
