"""Files for phones, checked in their own runtime."""

from keras_lrseg.export.tflite import export_tflite, run_tflite

__all__ = ["export_tflite", "run_tflite"]
