"""A training run in a folder: log, checkpoints, scores, model; it can be resumed."""

import contextlib
import csv
import json
import math
import os
import pathlib
import signal
import threading

import keras
import numpy as np

from keras_lrseg.backbones.inputs import MIN_SIZE
from keras_lrseg.data import SegmentationDataset, atomic_path, training_pipeline
from keras_lrseg.evaluation import evaluate
from keras_lrseg.training.checkpoint import Checkpoint, is_finite, restore_latest
from keras_lrseg.training.losses import SegmentationCrossEntropy
from keras_lrseg.training.optimizers import make_optimizer


def train(
    model: keras.Model,
    dataset: SegmentationDataset,
    out: str | pathlib.Path,
    *,
    crop: tuple[int, int],
    batch_size: int,
    steps: int,
    learning_rate: float,
    validation: SegmentationDataset | None = None,
    epoch_steps: int = 500,
    warmup_steps: int | None = None,
    weight_decay: float = 0.01,
    global_clipnorm: float | None = None,
    seed: int = 0,
    resume: bool = False,
) -> pathlib.Path:
    """Train a segmenter and keep everything in one folder.

    `out/checkpoints` holds the state at the end of the last epochs, `out/log.csv` the
    loss (and the validation mIoU) of each epoch, `out/run.json` the settings, and
    `out/model.keras` the result with the classes' names and colours.

    Args:
        model: a segmenter with the dataset's number of classes.
        dataset: what to train on.
        out: folder of the run, made if missing.
        crop: (height, width) of the training crops, in pixels.
        batch_size: images in a batch.
        steps: batches in the whole run.
        learning_rate: the peak.
        validation: scored at the end of every epoch, each image at its own size.
        epoch_steps: batches from one checkpoint to the next.
        warmup_steps: None for 1,500, or a tenth of a run below 15,000 steps.
        weight_decay, global_clipnorm: of `make_optimizer`.
        seed: of data order and augmentation.
        resume: go on from the last checkpoint in `out`.

    Returns:
        The path of `model.keras`.

    Raises:
        ValueError: if classes differ, `out` already holds a run and `resume` is False,
            or the run in `out` has other settings.
        FloatingPointError: if the loss is no longer finite; checkpoints stay.
    """
    out = pathlib.Path(out)
    _check_classes(model, dataset)
    if warmup_steps is None:
        warmup_steps = min(1500, steps // 10)
    classifier = getattr(model, "classifier", None)  # any Keras model can be trained
    settings = {
        "model": model.name,
        "classifier": None if classifier is None else type(classifier).__name__,
        "classes": list(dataset.classes),
        "images": len(dataset),
        "crop": list(crop),
        "batch_size": batch_size,
        "steps": steps,
        "learning_rate": learning_rate,
        "epoch_steps": epoch_steps,
        "warmup_steps": warmup_steps,
        "weight_decay": weight_decay,
        "global_clipnorm": global_clipnorm,
        "seed": seed,
    }
    if min(crop) < MIN_SIZE:
        raise ValueError(
            f"crop expects at least {MIN_SIZE} pixels a side. Received: {tuple(crop)}"
        )
    _check_run(out, settings, resume)
    model.classes, model.palette = dataset.classes, dataset.palette
    model.compile(
        optimizer=make_optimizer(
            model, learning_rate, steps, warmup_steps, weight_decay, global_clipnorm
        ),
        loss=SegmentationCrossEntropy(),
    )
    start = restore_latest(model, out / "checkpoints") if resume else 0
    if resume:
        print(f"Resuming at step {start} of {steps} from {out}", flush=True)
    callbacks = [keras.callbacks.TerminateOnNaN()]
    if validation is not None:
        callbacks.append(Validation(validation))
    callbacks += [
        Log(out / "log.csv", append=resume),
        StopAfter(steps - start),
        Checkpoint(out / "checkpoints", epoch_steps, steps),
    ]
    stream = training_pipeline(dataset, crop, batch_size, seed=seed, start_step=start)
    # Written when nothing can be refused any more: a folder with it is a run.
    with atomic_path(out / "run.json") as temporary:
        temporary.write_text(json.dumps(settings, indent=2) + "\n")
    if start < steps:
        with _interruptible() as interruption:
            history = model.fit(
                stream,
                initial_epoch=start // epoch_steps,
                epochs=math.ceil(steps / epoch_steps),
                steps_per_epoch=min(epoch_steps, steps),
                callbacks=[*callbacks, interruption],
                shuffle=False,
            )
        _check_finite(model, history, out)
    path = out / "model.keras"
    save_model(model, path)
    return path


def save_model(model, path) -> None:
    """Save a model as `.keras` under a temporary name, then rename it."""
    path = pathlib.Path(path)
    if path.suffix != ".keras":
        raise ValueError(f"A model is saved as .keras. Received: {path}")
    with atomic_path(path) as temporary:
        model.save(temporary)


class Validation(keras.callbacks.Callback):
    """Score a dataset at the end of every epoch, as "val_miou" in the logs."""

    def __init__(self, dataset):
        super().__init__()
        self.dataset = dataset

    def on_epoch_end(self, epoch, logs=None):
        scores = evaluate(self.model, self.dataset)
        print(f"\nEpoch {epoch + 1}: validation mIoU {scores.miou:.4f}", flush=True)
        if logs is not None:
            logs["val_miou"] = scores.miou


class Log(keras.callbacks.Callback):
    """Write the figures of every epoch to a CSV file.

    Keras's `CSVLogger` invents validation columns where no validation is.
    """

    def __init__(self, path, append):
        super().__init__()
        self.path = path
        self.append = append

    def on_train_begin(self, logs=None):
        if not self.append:
            self.path.unlink(missing_ok=True)

    def on_epoch_end(self, epoch, logs=None):
        row = {"epoch": epoch, **(logs or {})}
        with open(self.path, "a+", newline="") as file:
            file.seek(0)
            columns = next(csv.reader(file), None)
            writer = csv.DictWriter(file, columns or list(row), extrasaction="ignore")
            if columns is None:
                writer.writeheader()
            writer.writerow(row)


class StopAfter(keras.callbacks.Callback):
    """End the training after so many batches, in the middle of an epoch too."""

    def __init__(self, batches):
        super().__init__()
        self.left = batches

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            self.model.stop_training = True


@contextlib.contextmanager
def _interruptible():
    """Yield a callback that ends the training after the batch in which Ctrl-C came.

    An exception raised wherever Python happens to be would not do: where the compiled
    code of a library called it, as JAX often does, the exception goes no further.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT)
    interrupted = False

    def interrupt(*arguments):
        nonlocal interrupted
        if interrupted:
            signal.default_int_handler(*arguments)
        interrupted = True
        # print is not for signal handlers: it may have been interrupted itself
        os.write(2, b"\nStopping after this step; Ctrl-C again stops at once.\n")

    def check(batch, logs=None):
        if interrupted:
            raise KeyboardInterrupt

    callback = keras.callbacks.LambdaCallback(on_train_batch_end=check)
    if not in_main_thread or handler is not signal.default_int_handler:
        yield callback  # the program has a way of its own
        return
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield callback
    finally:
        signal.signal(signal.SIGINT, handler)


def _check_classes(model, dataset):
    if model.output_shape[-1] != len(dataset.classes):
        raise ValueError(
            f"The model has {model.output_shape[-1]} classes and the data "
            f"{len(dataset.classes)}. Type num_classes={len(dataset.classes)}."
        )


def _check_run(out, settings, resume):
    """Raise if `out` holds a run that is not to be resumed, or another one."""
    path = out / "run.json"
    if path.exists() and not resume:
        raise ValueError(
            f"{out} already holds a run. Type --resume to go on with it, or choose "
            "another --out."
        )
    if not path.exists():
        return
    before = json.loads(path.read_text())
    different = [
        f"{key} (was {before.get(key)!r}, now {value!r})"
        for key, value in settings.items()
        if before.get(key) != value
    ]
    if different:
        raise ValueError(
            f"The run in {out} has other settings: {', '.join(different)}. Resume with "
            "the same ones, or choose another --out."
        )


def _check_finite(model, history, out):
    losses = history.history.get("loss", [])
    if not (np.isfinite(losses).all() and is_finite(model)):
        raise FloatingPointError(
            f"The loss is no longer finite after {len(losses)} epochs. The last good "
            f"checkpoint is in {out / 'checkpoints'}; try a lower --learning-rate."
        )
