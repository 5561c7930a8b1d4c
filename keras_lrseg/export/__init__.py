"""Files for phones, browsers and servers, checked in their own runtimes."""

from keras_lrseg.export.artifact import Artifact
from keras_lrseg.export.check import Report
from keras_lrseg.export.export import export_onnx, export_saved_model, export_tflite
from keras_lrseg.export.interface import Interface
from keras_lrseg.export.metadata import add_metadata
from keras_lrseg.export.operators import Operators, read_operators

__all__ = [
    "Artifact",
    "Interface",
    "Operators",
    "Report",
    "add_metadata",
    "export_onnx",
    "export_saved_model",
    "export_tflite",
    "read_operators",
]
