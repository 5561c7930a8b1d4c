"""A training run in a folder: log, checkpoints, scores, model; it can be resumed."""

import dataclasses
import json
import math
import pathlib
from collections.abc import Sequence

import keras

from keras_lrseg.data import SegmentationDataset, atomic_path
from keras_lrseg.interruption import interruptible
from keras_lrseg.training.callbacks import (
    Alone,
    Log,
    StopAfter,
    StopAtNaN,
    TensorBoard,
    Throughput,
)
from keras_lrseg.training.checkpoint import (
    Checkpoint,
    SameGenerators,
    checkpoints_in,
    is_finite,
    restore_latest,
)
from keras_lrseg.training.distribution import Devices
from keras_lrseg.training.model_card import model_card
from keras_lrseg.training.optimizers import make_optimizer
from keras_lrseg.training.recipe import Recipe

# What may differ between a run and its resumption: where the data are, what the model
# started from (the checkpoint takes its place), and what changes no number.
MAY_DIFFER = (
    *("root", "images", "masks", "val_images", "val_masks", "classes"),
    *("initial", "weights", "backbone_weights", "reset_head", "from_scratch"),
    *("jit_compile", "expected"),
)


def train(
    model: keras.Model,
    dataset,
    out: str | pathlib.Path,
    recipe: Recipe,
    *,
    validation=None,
    resume: bool = False,
    devices: Devices | None = None,
    may_differ: Sequence[str] = (),
) -> pathlib.Path:
    """Train a model and keep everything in one folder.

    `out/checkpoints` holds the state at the end of the last epochs; `out/log.csv` the
    loss, the images per second, the learning rate and the validation's score of each
    epoch (`out/tensorboard` the same); `out/run.json` the recipe, `out/model.keras` the
    result, with the classes' names and colours, and `out/README.md` its card.

    Example:

        recipe = SegmentationRecipe(
            crop=(256, 256), batch_size=8, steps=4000, learning_rate=1e-3
        )
        train(model, dataset, "runs/street", recipe, validation=validation)

    Args:
        model: with the dataset's number of classes.
        dataset: what to train on: a `SegmentationDataset`, or a
            `ClassificationDataset` with a `ClassificationRecipe`.
        out: folder of the run, made if missing.
        recipe: all numbers. What says which model and data are taken is not used here.
        validation: a dataset that is scored at the end of every epoch.
        resume: go on from the last checkpoint in `out`.
        devices: what `distribute` gave, if the model was made inside it; None: one.
        may_differ: names in `run.json` whose values a resumed run may change; it then
            ends with other weights than an uninterrupted one.

    Returns:
        The path of `model.keras`.

    Raises:
        ValueError: if classes differ, `out` already holds a run and `resume` is False,
            or the run in `out` has other settings.
        FloatingPointError: if the loss is no longer finite; checkpoints stay.
    """
    out = pathlib.Path(out)
    devices = devices or Devices()
    parts, steps = recipe.accumulation_steps, recipe.steps
    _check_classes(model, dataset, validation)
    check_free(out, resume)
    settings = _settings(model, dataset, recipe)
    check_settings(out, settings, may_differ)
    model.classes = dataset.classes
    model.palette = getattr(dataset, "palette", None)
    model.compile(
        optimizer=make_optimizer(
            model,
            recipe.learning_rate,
            steps,
            recipe.warmup,
            weight_decay=recipe.weight_decay,
            global_clipnorm=recipe.global_clipnorm,
            head_multiplier=recipe.head_multiplier,
            backbone_multiplier=recipe.backbone_multiplier,
            power=recipe.power,
            schedule=recipe.schedule,
            accumulation_steps=parts if parts > 1 else None,
        ),
        loss=recipe.loss(model),
        jit_compile={"auto": "auto", "yes": True, "no": False}[recipe.jit_compile],
    )
    start = restore_latest(model, out / "checkpoints") if resume else 0
    if resume and devices.chief:
        begun = f"Resuming at step {start} of {steps} from {out}"
        print(begun if start else f"{out} holds no checkpoint: a new run", flush=True)
    same_generators = SameGenerators()  # before anything draws from them
    first_epoch = math.ceil(start / recipe.epoch_steps)
    log = Log(out / "log.csv", first_epoch)  # read by all before one writes it
    devices.prepare(model)
    batch_size = recipe.batch_size // parts
    stream = recipe.stream(
        dataset,
        devices.share(batch_size),
        start_step=start * parts,
        shard=devices.shard,
    )
    if devices.chief and (start == 0 or not (out / "run.json").exists()):
        # Written when nothing can be refused any more: a folder with it is a run.
        # Later it keeps the weights that the run began with.
        with atomic_path(out / "run.json") as temporary:
            temporary.write_text(json.dumps(settings, indent=2) + "\n")
    nan = StopAtNaN()
    callbacks = [Throughput(batch_size), StopAfter((steps - start) * parts), nan]
    callbacks.append(same_generators)
    if devices.chief:  # first of what may fail: nothing else loses the epoch
        folder = out / "checkpoints"
        callbacks.append(Checkpoint(folder, recipe.epoch_steps, steps))
    with interruptible() as check:
        after = _after_epoch(recipe, validation, devices, log, check)
        if first_epoch and not log.has(first_epoch - 1):
            # The run was ended between the checkpoint of the epoch and its score.
            logs = {}
            for callback in after:
                callback.set_model(model)
                callback.on_epoch_end(first_epoch - 1, logs)
        if start < steps:
            interruption = keras.callbacks.LambdaCallback(
                on_train_batch_end=lambda batch, logs=None: check()
            )
            model.fit(
                stream,
                initial_epoch=first_epoch,
                epochs=math.ceil(steps / recipe.epoch_steps),
                steps_per_epoch=min(recipe.epoch_steps, steps) * parts,
                callbacks=[*callbacks, *after, interruption],
                shuffle=False,
                verbose="auto" if devices.chief else 0,
            )
            _check_finite(model, nan, start, parts, out)
    path = out / "model.keras"
    if devices.chief:
        with devices.alone():
            save_model(model, path)
        settings = json.loads((out / "run.json").read_text())
        with atomic_path(out / "README.md") as temporary:
            card = model_card(model, dataset.name, settings, log.rows[-1])
            temporary.write_text(card)
    devices.barrier()
    return path


def save_model(model, path) -> None:
    """Save a model as `.keras` under a temporary name, then rename it."""
    with atomic_path(model_path(path)) as temporary:
        model.save(temporary)


def model_path(path: str | pathlib.Path) -> pathlib.Path:
    """Return the path of a model to save; raise ValueError if none can be there."""
    path = pathlib.Path(path)
    if path.suffix != ".keras" or path.is_dir():
        what = "the folder " if path.is_dir() else ""
        raise ValueError(f"A model is saved as .keras, a file. Received: {what}{path}")
    return path


def _after_epoch(recipe, validation, devices, log, check):
    """The callbacks that score and log an epoch, in this order.

    They call `check` between images.
    """

    def interruptibly(items):
        for item in items:
            check()
            yield item

    callbacks = []
    if validation is not None:
        scoring = recipe.validation(validation, interruptibly)
        callbacks.append(Alone(scoring, devices))
    if devices.chief:
        callbacks.append(log)
    board = TensorBoard(
        log.path.with_name("tensorboard") if devices.chief else None,
        recipe.epoch_steps,
        validation if isinstance(validation, SegmentationDataset) else None,
        getattr(recipe, "test", None),
    )
    return [*callbacks, Alone(board, devices)]


def _check_classes(model, dataset, validation):
    if model.output_shape[-1] != len(dataset.classes):
        raise ValueError(
            f"The model has {model.output_shape[-1]} classes and the data "
            f"{len(dataset.classes)}. Type num_classes={len(dataset.classes)}."
        )
    if validation is not None and list(validation.classes) != list(dataset.classes):
        raise ValueError(
            f"Training and validation have other classes: {', '.join(dataset.classes)} "
            f"and {', '.join(validation.classes)}. Load both with the same ones."
        )


def _settings(model, dataset, recipe) -> dict:
    """What a run must have in common with its resumption, and the recipe's places."""
    classifier = getattr(model, "classifier", None)  # any Keras model can be trained
    settings = {
        **dataclasses.asdict(recipe),
        "model": recipe.model or model.name,
        "classifier": None if classifier is None else type(classifier).__name__,
        "class_names": list(dataset.classes),
        "image_count": len(dataset),
    }
    return json.loads(json.dumps(settings))  # tuples as lists, as in the file


def check_free(out: pathlib.Path, resume: bool) -> None:
    """Raise a ValueError if a folder cannot take a run, or has one to be resumed."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out expects a folder. Received the file {out}")
    begun = (out / "run.json").exists() or checkpoints_in(out / "checkpoints")
    if begun and not resume:
        raise ValueError(
            f"{out} already holds a run. Type --resume to go on with it, or choose "
            "another --out."
        )


def check_settings(out: pathlib.Path, settings: dict, may_differ=()) -> None:
    """Raise a ValueError that names the settings which the run in `out` has not."""
    path = out / "run.json"
    if not path.exists():
        return
    try:
        before = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    different = [
        f"{key} (was {before.get(key)!r}, now {value!r})"
        for key, value in settings.items()
        if key not in (*MAY_DIFFER, *may_differ) and before.get(key) != value
    ]
    if different:
        raise ValueError(
            f"The run in {out} has other settings: {', '.join(different)}. Resume with "
            "the same ones, or choose another --out."
        )


def _check_finite(model, nan, start, parts, out):
    if nan.batch is None and is_finite(model):
        return
    where = "" if nan.batch is None else f" at step {start - -nan.batch // parts}"
    folder = out / "checkpoints"
    saved = checkpoints_in(folder)
    good = f"The last good checkpoint is {saved[-1]}" if saved else "None was saved"
    raise FloatingPointError(
        f"The loss is no longer finite{where}. {good}. Begin again with a lower "
        "learning rate and another --out; --resume would repeat this."
    )
