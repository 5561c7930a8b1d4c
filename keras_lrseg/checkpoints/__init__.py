"""Weights from files: Keras's own, and the published PyTorch checkpoints."""

from keras_lrseg.checkpoints.keras_files import load_model
from keras_lrseg.checkpoints.load import (
    load_backbone_weights,
    load_weights,
    published_settings,
)

__all__ = ["load_backbone_weights", "load_model", "load_weights", "published_settings"]
