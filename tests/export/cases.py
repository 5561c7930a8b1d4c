"""What the tests of exporting share."""

import keras
import numpy as np
import pytest

from keras_lrseg import ImageClassifier, export
from keras_lrseg.data import load_demo
from keras_lrseg.export import export_onnx, export_saved_model, export_tflite
from keras_lrseg.layers import ConvolutionNorm
from tests.helpers import run
from tests.tiny import tiny_backbone

# The others leave the conversion to a process of TensorFlow: a few tests show that.
in_this_process = pytest.mark.skipif(
    keras.config.backend() != "tensorflow", reason="TensorFlow converts the same model"
)


def picture(height, width):
    image, _ = load_demo("train")[0]
    return np.ascontiguousarray(image[:height, :width])


def run_file(path, image):
    with export.Artifact(path) as artifact:
        return artifact.run(image)


def logits_of(model, image):
    at_stride = keras.Model(model.input, model.logits)
    return run(at_stride, image[None].astype("float32"))[0]


WRITERS = {
    "model.tflite": export_tflite,
    "model.onnx": export_onnx,
    "model": export_saved_model,
}


def classifier(classes=None):
    head = ConvolutionNorm(8, activation="relu")
    return ImageClassifier(tiny_backbone(), 5, head=head, classes=classes)
