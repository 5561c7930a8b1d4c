"""Runs of a toy model that last a second, and what they leave behind."""

import csv

import keras
import numpy as np

from keras_lrseg.training import Checkpoint, SegmentationRecipe, run
from tests.training.toys import toy_dataset, toy_segmenter

# The last of the three epochs has one step.
SETTINGS = {
    "crop": (64, 48),
    "batch_size": 2,
    "steps": 5,
    "epoch_steps": 2,
    "learning_rate": 1e-2,
}

FIGURES = ("loss", "images_per_s", "learning_rate")  # of an epoch, in the log


def train(
    out,
    model_seed=0,
    dataset=None,
    validation=None,
    resume=False,
    make=toy_segmenter,
    **settings,
):
    """Train a toy model from weights and dropout that `model_seed` decides."""
    keras.utils.set_random_seed(model_seed)
    recipe = SegmentationRecipe(**{**SETTINGS, **settings})
    return run.train(
        make(),
        dataset or toy_dataset(),
        out,
        recipe,
        validation=validation,
        resume=resume,
    )


def log_of(out):
    with open(out / "log.csv") as file:
        return list(csv.DictReader(file))


def state_of(out, step):
    with np.load(out / "checkpoints" / f"step_{step:08d}.npz") as file:
        return {name: file[name] for name in file.files if name != "names"}


def files_in(out):
    """All files but TensorBoard's, whose names are the time."""
    files = [p.relative_to(out) for p in out.rglob("*") if p.is_file()]
    return sorted(str(p) for p in files if p.parts[0] != "tensorboard")


def after_epoch(monkeypatch, epoch, action):
    """Call `action(model)` when the checkpoint of an epoch has been written."""

    class Patched(Checkpoint):
        def on_epoch_end(self, this_epoch, logs=None):
            super().on_epoch_end(this_epoch, logs)
            if this_epoch == epoch:
                action(self.model)

    monkeypatch.setattr(run, "Checkpoint", Patched)
