"""What a training would do and cost, before it is started."""

import dataclasses
import json
import pathlib

from keras_lrseg import analysis
from keras_lrseg.evaluation import TestSettings
from keras_lrseg.training.checkpoint import checkpoints_in
from keras_lrseg.training.distribution import distribute
from keras_lrseg.training.recipe import Recipe
from keras_lrseg.training.run import check_free, check_settings
from keras_lrseg.training.segmentation import SegmentationRecipe

CLASSES = 150  # counted with where the data's number is not known yet
# Bytes of a trained weight: itself, its gradient, AdamW's two moments.
BYTES_PER_WEIGHT = 16
# Values kept for each one that a multiplying layer gives, in norms, activations and
# gradients: 2.5 to 4.6, measured with LRFormer-S (results/memory.csv).
KEPT_PER_ACTIVATION = 3.5


def plan(
    recipe: Recipe,
    out: str | pathlib.Path,
    *,
    resume: bool = False,
    distribution: str | None = None,
) -> str:
    """Describe a training: the recipe, its cost, its files, and what is missing.

    Neither the data nor the initial weights need to be there.

    Args:
        recipe: with a model.
        out: folder of the run.
        resume, distribution: as `launch` will have them.
    """
    classes = recipe.num_classes() or _classes_found(recipe)
    bare = dataclasses.replace(recipe, weights=None, backbone_weights=None)
    cost = analysis.profile(bare.build(classes or CLASSES), recipe.input_size)
    lines = ["recipe"]
    for name, value in dataclasses.asdict(recipe).items():
        if isinstance(value, dict):  # the test settings
            value = _settings_text(recipe.test)
        if name == "warmup_steps":
            value = recipe.warmup
        lines.append(f"  {name:20} {value}")
    guess = "" if classes else f" (with {CLASSES} classes: the data's are not known)"
    devices, missing = _devices(recipe, distribution)
    where = "one device" if devices == 1 else f"each of {devices} devices"
    memory = _memory(recipe, cost, devices)
    # A backward pass multiplies twice as often as a forward pass.
    step = 3 * recipe.batch_size * cost.flops
    lines += [
        f"cost{guess}",
        f"  parameters           {cost.params / 1e6:.3f} M",
        f"  FLOPs of an image    {cost.flops / 1e9:.2f} G forward",
        f"  FLOPs of a step      {step / 1e12:.3g} T, of all steps "
        f"{step * recipe.steps / 1e18:.3g} E",
        f"  memory               about {memory / 2**30:.1f} GiB on {where}, within a "
        "factor of 1.5",
        "files",
    ]
    out = pathlib.Path(out)
    files = [
        ("run.json", "this recipe, all numbers"),
        ("log.csv", f"a line every {recipe.epoch_steps} steps"),
        ("tensorboard", "the same for TensorBoard"),
        ("checkpoints", "the last two states, to resume from"),
        ("model.keras", "the trained model"),
        ("README.md", "its card"),
        ("curve.png", "loss and score"),
    ]
    if isinstance(recipe, SegmentationRecipe):
        files.append(("contact_sheet.png", "predictions, with validation images"))
    lines += [f"  {out / name}: {what}" for name, what in files]
    if not (resume and checkpoints_in(out / "checkpoints")):
        missing += recipe.missing_weights()
    missing += recipe.missing_data()
    missing += _refused(check_free, out, resume)
    if resume:
        missing += _refused(check_settings, out, _comparable(recipe))
    lines += ["missing", *(f"  {line}" for line in missing or ["nothing"])]
    return "\n".join(lines)


def _classes_found(recipe):
    """How many classes the training data has; None if it is not there."""
    try:
        return recipe.load("train").num_classes
    except (ValueError, OSError):
        return None  # `missing_data` says why


def _devices(recipe, distribution):
    """Among how many devices a batch is divided, and what keeps it from being."""
    try:
        with distribute(distribution) as devices:
            devices.share(recipe.batch_size // recipe.accumulation_steps)
            return devices.parts, []
    except ValueError as error:
        return 1, [str(error)]


def _comparable(recipe):
    """The settings that `run.json` has as the recipe has them."""
    settings = json.loads(json.dumps(dataclasses.asdict(recipe)))
    settings.pop("classifier", None)  # a run keeps the name of what was built
    return settings


def _refused(check, *arguments):
    """What a check raises, as a list."""
    try:
        check(*arguments)
    except ValueError as error:
        return [str(error)]
    return []


def _memory(recipe, cost, devices):
    """Bytes of one training step on each device, roughly."""
    images = recipe.batch_size // recipe.accumulation_steps / devices
    size = 4 if recipe.precision == "float32" else 2
    activations = KEPT_PER_ACTIVATION * size * images * cost.activations
    return BYTES_PER_WEIGHT * cost.params + activations


def _settings_text(settings):
    """The test settings that are not the default."""
    default = dataclasses.asdict(TestSettings())
    changed = {k: v for k, v in dataclasses.asdict(settings).items() if v != default[k]}
    return ", ".join(f"{k}={v}" for k, v in changed.items()) or "whole image"
