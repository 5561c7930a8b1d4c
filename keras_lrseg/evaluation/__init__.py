"""Label maps from models, and their scores."""

from keras_lrseg.evaluation.classify import ClassifierScores, evaluate_classifier
from keras_lrseg.evaluation.evaluate import Evaluation, check_classes, evaluate
from keras_lrseg.evaluation.predict import (
    labels_of,
    predict_labels,
    predict_logits,
)
from keras_lrseg.evaluation.resize import resize_image
from keras_lrseg.evaluation.scores import Scores, confusion_matrix
from keras_lrseg.evaluation.settings import (
    PAPER_SETTINGS,
    TestSettings,
    paper_settings,
)

__all__ = [
    "PAPER_SETTINGS",
    "ClassifierScores",
    "Evaluation",
    "Scores",
    "TestSettings",
    "check_classes",
    "confusion_matrix",
    "evaluate",
    "evaluate_classifier",
    "labels_of",
    "paper_settings",
    "predict_labels",
    "predict_logits",
    "resize_image",
]
