"""Label maps from models, and their scores."""

from keras_lrseg.evaluation.predict import evaluate, predict_labels
from keras_lrseg.evaluation.scores import Scores, confusion_matrix

__all__ = ["Scores", "confusion_matrix", "evaluate", "predict_labels"]
