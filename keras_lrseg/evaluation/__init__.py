"""Label maps from models, and their scores."""

from keras_lrseg.evaluation.predict import (
    check_classes,
    evaluate,
    labels_of,
    predict_labels,
)
from keras_lrseg.evaluation.scores import Scores, confusion_matrix

__all__ = [
    "Scores",
    "check_classes",
    "confusion_matrix",
    "evaluate",
    "labels_of",
    "predict_labels",
]
