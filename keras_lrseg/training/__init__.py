"""Recipes, the training run, and its parts: loss, metric, optimizer, checkpoints."""

from keras_lrseg.training.checkpoint import Checkpoint, restore_latest, save_state
from keras_lrseg.training.classification import ClassificationRecipe
from keras_lrseg.training.distribution import Devices, distribute
from keras_lrseg.training.launch import launch, load_recipes
from keras_lrseg.training.losses import (
    ClassificationCrossEntropy,
    SegmentationCrossEntropy,
)
from keras_lrseg.training.mask_losses import MaskClassificationLoss
from keras_lrseg.training.metrics import MeanIoU
from keras_lrseg.training.optimizers import GroupedAdamW, make_optimizer
from keras_lrseg.training.plan import plan
from keras_lrseg.training.recipe import Recipe, recipe_rows
from keras_lrseg.training.run import model_path, save_model, train
from keras_lrseg.training.schedule import WarmupCosine, WarmupPolynomial
from keras_lrseg.training.segmentation import SegmentationRecipe

__all__ = [
    "Checkpoint",
    "ClassificationCrossEntropy",
    "ClassificationRecipe",
    "Devices",
    "GroupedAdamW",
    "MaskClassificationLoss",
    "MeanIoU",
    "Recipe",
    "SegmentationCrossEntropy",
    "SegmentationRecipe",
    "WarmupCosine",
    "WarmupPolynomial",
    "distribute",
    "launch",
    "load_recipes",
    "make_optimizer",
    "model_path",
    "plan",
    "recipe_rows",
    "restore_latest",
    "save_model",
    "save_state",
    "train",
]
