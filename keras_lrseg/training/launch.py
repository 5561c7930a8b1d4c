"""From a recipe to a trained model: check, build, train, draw."""

import dataclasses
import pathlib
import runpy
from collections.abc import Callable

import keras
import numpy as np

from keras_lrseg import analysis
from keras_lrseg.data import SegmentationDataset, save_image
from keras_lrseg.training.checkpoint import checkpoints_in
from keras_lrseg.training.distribution import distribute
from keras_lrseg.training.precision import check_precision
from keras_lrseg.training.recipe import Recipe
from keras_lrseg.training.run import check_free, train

SHEET_ROWS = 6


def load_recipes(path: str | pathlib.Path) -> dict[str, Recipe]:
    """Return the recipes of a file such as `recipes/ade20k.py`, by name.

    The file is Python and is run.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it defines no `RECIPES`.
    """
    if not pathlib.Path(path).is_file():
        raise FileNotFoundError(f"There is no recipe {path}")
    recipes = runpy.run_path(str(path)).get("RECIPES")
    if not isinstance(recipes, dict):
        raise ValueError(f"{path} defines no RECIPES, a dictionary of recipes by name.")
    return recipes


def launch(
    recipe: Recipe,
    out: str | pathlib.Path,
    *,
    resume: bool = False,
    skip_corrupt: bool = False,
    distribution: str | None = None,
    progress: Callable[[], Callable[[int, int], None]] | None = None,
) -> pathlib.Path:
    """Load and check the data, build the model, train it, draw what came of it.

    Beside what `train` leaves, `out` then holds `curve.png` and, with validation
    images, `contact_sheet.png`.

    Args:
        recipe: with a model, and a dataset or folders.
        out: folder of the run.
        resume: go on from the last checkpoint in `out`.
        skip_corrupt: leave out images that cannot be read, and name them; a run that
            such an image ended can be resumed, the order of the others is a new one.
        distribution: "none", "data" or "model", of `distribute`.
        progress: makes a function that is called with (images checked, all).

    Returns:
        The path of `model.keras`.

    Raises:
        ValueError: if something is missing, with the remedy; and as `train`.
    """
    out = pathlib.Path(out)
    check_free(out, resume)
    fresh = not (resume and checkpoints_in(out / "checkpoints"))
    if fresh and (missing := recipe.missing_weights()):
        raise ValueError(" ".join(missing))
    dataset = recipe.load("train")
    validation = recipe.load("validation", dataset)
    progress = progress or (lambda: None)
    with distribute(distribution) as devices:
        # Before the images: of many, the check takes minutes.
        keras.utils.set_random_seed(recipe.seed)
        model = (recipe if fresh else _without_weights(recipe)).build(
            dataset.num_classes
        )
        devices.share(recipe.batch_size // recipe.accumulation_steps)
        check_precision(model)
        if skip_corrupt:
            dataset = _readable(dataset, progress(), devices)
            validation = validation and _readable(validation, progress(), devices)
        if devices.chief and fresh:
            for part in filter(None, (dataset, validation)):
                _check(part, progress())
        path = train(
            model,
            dataset,
            out,
            recipe,
            validation=validation,
            resume=resume,
            devices=devices,
            may_differ=("image_count",) if skip_corrupt else (),
        )
        with devices.alone():  # all of them: JAX's processes compute together
            picture = _contact_picture(model, validation, recipe)
        if devices.chief:
            analysis.training_curve(out / "log.csv", out / "curve.png")
            if picture is not None:
                save_image(out / "contact_sheet.png", picture)
            print(f"Model: {path}", flush=True)
        devices.barrier()
    return path


def _without_weights(recipe):
    """A recipe for a model that a checkpoint fills: the first weights may be gone."""
    none = {"weights": None, "backbone_weights": None, "reset_head": False}
    return dataclasses.replace(recipe, **none)


def _contact_picture(model, validation, recipe):
    if not isinstance(validation, SegmentationDataset):
        return None
    rows = np.unique(np.linspace(0, len(validation) - 1, SHEET_ROWS).astype(int))
    return analysis.contact_picture(model, validation, rows, recipe.test)


def _readable(dataset, progress, devices):
    dataset, messages = dataset.without_corrupt(progress if devices.chief else None)
    if devices.chief:
        for message in messages:
            print(f"left out: {message}")
        print(f"{len(messages)} images of {dataset.name} left out, {len(dataset)} stay")
    return dataset


def _check(dataset, progress):
    """Read every mask and its image once; warn of classes without a pixel or image.

    Raises:
        ValueError: if no pixel at all is labelled.
    """
    if isinstance(dataset, SegmentationDataset):
        print(f"Checking {len(dataset)} images of {dataset.name}", flush=True)
        counts = dataset.check(progress)
    else:  # labels are folders: nothing to read but a million images
        counts = np.bincount(dataset.labels, minlength=dataset.num_classes)
    if not counts.any():
        raise ValueError(
            f"No pixel of {dataset.name} is labelled: every mask is 255, ignored."
        )
    for name, count in zip(dataset.classes, counts, strict=True):
        if count == 0:
            print(f"warning: nothing of class {name!r} in {dataset.name}")
