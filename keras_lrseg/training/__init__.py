"""Loss, metric, schedule, optimizer, checkpoints and the training run."""

from keras_lrseg.training.checkpoint import Checkpoint, restore_latest, save_state
from keras_lrseg.training.losses import SegmentationCrossEntropy
from keras_lrseg.training.metrics import MeanIoU
from keras_lrseg.training.optimizers import make_optimizer
from keras_lrseg.training.run import save_model, train
from keras_lrseg.training.schedule import WarmupPolynomial

__all__ = [
    "Checkpoint",
    "MeanIoU",
    "SegmentationCrossEntropy",
    "WarmupPolynomial",
    "make_optimizer",
    "restore_latest",
    "save_model",
    "save_state",
    "train",
]
