"""The export of a saved model, for backends that leave it to TensorFlow.

`python -m keras_lrseg.export MODEL.keras FILE.tflite HEIGHT WIDTH OUTPUT [IMAGES.npz]`
"""

import sys

import numpy as np

from keras_lrseg.checkpoints import load_model
from keras_lrseg.export.tflite import export_tflite

if __name__ == "__main__":
    source, target, height, width, output, *rest = sys.argv[1:]
    size = (int(height), int(width))
    images = list(np.load(rest[0]).values()) if rest else None
    print(export_tflite(load_model(source), target, size, output, images))
