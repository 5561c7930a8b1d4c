"""The numbers of a training: what `train` follows and what `recipes/` holds.

A task, segmentation or classification, adds its own numbers and says how to load the
data, build the model, make the stream of batches, the loss and the validation.
"""

import dataclasses
import math
import os
import re
import sys
import types
import typing

import keras

from keras_lrseg import models
from keras_lrseg.evaluation import TestSettings

SMALLEST = sys.float_info.min  # above 0
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """The numbers that every training has.

    Args:
        model: name of the model, for example "LRFormerS".
        dataset: a name that `load` knows.
        root: folder of the dataset.
        initial: what the paper starts from, for example "ImageNet-1K"; training then
            refuses random weights unless `from_scratch` is set. None: random weights.
        weights, backbone_weights: files to start from.
        reset_head: with `weights`: leave the classification layer random.
        from_scratch: start from random weights where the paper does not.
        batch_size: images that make one update, over all devices.
        steps: updates of the weights in the whole run.
        epoch_steps: updates from one checkpoint, validation and log line to the next.
        learning_rate: the peak.
        schedule: "polynomial" or "cosine" decay to 0, after the warm-up.
        power: of the polynomial.
        warmup_steps: of the linear warm-up; None: 1,500, or a tenth of a short run.
        weight_decay: decoupled, per step, times the learning rate.
        head_multiplier, backbone_multiplier: of the learning rate.
        global_clipnorm: largest norm of all gradients together; None: no clipping.
        drop_path_rate: None: the paper's for this model.
        precision: "float32", "mixed_bfloat16" or "mixed_float16".
        accumulation_steps: parts that a batch is divided into, one after the other,
            where it does not fit into memory. Each part weighs the same, and batch
            normalization sees one part at a time.
        jit_compile: "auto", "yes" or "no", of Keras's `compile`. "auto" is "no" on
            PyTorch, where "yes" takes what Python does between the layers out of the
            steps after the first, of this package's models.
        seed: of initial weights, data order and augmentation.
        expected: the paper's score in percent, validation mIoU or top-1; not ours.

    Raises:
        ValueError: for numbers that cannot be trained with.
    """

    model: str = ""
    dataset: str = ""
    root: str | None = None
    initial: str | None = None
    weights: str | None = None
    backbone_weights: str | None = None
    reset_head: bool = False
    from_scratch: bool = False
    batch_size: int
    steps: int
    epoch_steps: int = 500
    learning_rate: float
    schedule: str = "polynomial"
    power: float = 1.0
    warmup_steps: int | None = None
    weight_decay: float = 0.01
    head_multiplier: float = 1.0
    backbone_multiplier: float = 1.0
    global_clipnorm: float | None = None
    drop_path_rate: float | None = None
    precision: str = "float32"
    accumulation_steps: int = 1
    jit_compile: str = "auto"
    seed: int = 0
    expected: float | None = None

    def __post_init__(self):
        for name in ("batch_size", "steps", "epoch_steps", "accumulation_steps"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"{name} expects 1 or more. Received: {getattr(self, name)}"
                )
        self._check_range("learning_rate", SMALLEST)
        self._check_range("power", SMALLEST)
        self._check_range("weight_decay", 0)
        self._check_range("head_multiplier", 0)
        self._check_range("backbone_multiplier", 0)
        self._check_range("seed", 0, 2**32)
        if self.global_clipnorm is not None:
            self._check_range("global_clipnorm", SMALLEST)
        if self.drop_path_rate is not None:
            self._check_range("drop_path_rate", 0, 1)
        for name, choices in (
            ("schedule", ("polynomial", "cosine")),
            ("precision", PRECISIONS),
            ("jit_compile", ("auto", "yes", "no")),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"{name} expects {' or '.join(choices)}. "
                    f"Received: {getattr(self, name)!r}"
                )
        if not 0 <= self.warmup < self.steps:
            raise ValueError(
                "warmup_steps expects 0 <= warmup_steps < steps. "
                f"Received: warmup_steps={self.warmup_steps}, steps={self.steps}"
            )
        if self.batch_size % self.accumulation_steps:
            raise ValueError(
                f"A batch of {self.batch_size} cannot be divided into "
                f"accumulation_steps={self.accumulation_steps} equal parts."
            )

    def _check_range(self, name, low, high=math.inf):
        """Raise unless a number is in low..high, the end left out; NaN is not."""
        value = getattr(self, name)
        if not low <= value < high:
            least = "a number above 0" if low == SMALLEST else f"{low} or more"
            below = f" and less than {high}" if high < math.inf else ""
            raise ValueError(f"{name} expects {least}{below}. Received: {value}")

    @classmethod
    def parse(cls, settings: dict[str, str]) -> dict[str, typing.Any]:
        """Return the values of fields from what a person typed, for `replace`.

        Args:
            settings: field to text: a number, "yes" or "no", "none", or numbers with
                commas for several.

        Raises:
            ValueError: for an unknown field, with the list of all, or a text that is no
                value of the field's type.
        """
        kinds = {
            name: kind
            for name, kind in typing.get_type_hints(cls).items()
            if name != "model" and kind is not TestSettings  # a row has its own numbers
        }
        values = {}
        for name, text in settings.items():
            if name not in kinds:
                raise ValueError(
                    f"There is no setting {name!r}. Choose from {', '.join(kinds)}."
                )
            values[name] = _parsed(name, text, kinds[name])
        return values

    @property
    def warmup(self) -> int:
        """Updates of the warm-up, resolved."""
        if self.warmup_steps is None:
            return min(1500, self.steps // 10)
        return self.warmup_steps

    def missing_weights(self) -> list[str]:
        """What keeps the model from being built: sentences with the remedy."""
        files = [file for file in (self.weights, self.backbone_weights) if file]
        if self.initial and not (files or self.from_scratch):
            return [
                f"The recipe starts from weights trained on {self.initial}. Type "
                f"{self.initial_remedy}, or --set from_scratch=yes for random weights."
            ]
        if self.reset_head and not (self.weights or self.from_scratch):
            return ["reset_head (--reset-head) goes with weights, of a whole model."]
        lost = [f for f in files if not f.startswith("hf://") and not os.path.isfile(f)]
        return [f"There is no file of weights {file}." for file in lost]

    def missing_data(self) -> list[str]:
        """What keeps the data from being loaded: sentences with the remedy."""
        found, train = [], None
        for split in ("train", "validation"):
            try:
                train = self.load(split, train)
            except (ValueError, OSError) as error:
                found.append(f"The {split} data: {error}")
        return found

    def _build(self, num_classes, **settings) -> keras.Model:
        if self.drop_path_rate is not None:
            settings["drop_path_rate"] = self.drop_path_rate
        if self.model not in self.known_models:
            raise ValueError(
                f"{type(self).__name__} has no model {self.model!r}. Choose from "
                f"{', '.join(self.known_models)}."
            )
        return models.make(
            self.model,
            num_classes=num_classes,
            weights=self.weights,
            backbone_weights=self.backbone_weights,
            reset_head=self.reset_head,
            dtype=self.precision,
            **settings,
        )


def recipe_rows(base: Recipe, columns: str, *rows: tuple) -> dict[str, Recipe]:
    """Return variants of a recipe from the rows of a table, by name.

    Example:

        recipe_rows(BASE, "drop_path_rate expected", ("LRFormerT", 0.1, 46.7))

    Args:
        base: what the rows have in common.
        columns: fields, with spaces between.
        rows: a name and the values of the fields. The name begins with the model's;
            after "+" or "/" follows what tells it from another row of that model.
    """
    return {
        name: dataclasses.replace(
            base,
            model=re.split(r"[+/]", name)[0],
            **dict(zip(columns.split(), values, strict=True)),
        )
        for name, *values in rows
    }


def _parsed(name, text, kind):
    """The value of a field from what a person typed."""
    kinds = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    if text == "none" and types.NoneType in kinds:
        return None
    kind = kinds[0]
    try:
        if kind is bool:
            return {"yes": True, "no": False}[text]
        if typing.get_origin(kind) is tuple:
            parts = zip(typing.get_args(kind), text.split(","), strict=True)
            return tuple(part(value) for part, value in parts)
        if kind is str and not text:
            raise ValueError
        return kind(text)
    except (ValueError, KeyError):
        example = {
            bool: "yes or no",
            int: "a whole number",
            float: "a number",
            str: "a word",
        }.get(kind, "two numbers, such as 512,512")
        none = " or none" if types.NoneType in kinds else ""
        raise ValueError(
            f"{name} expects {example}{none}. Received: {text!r}"
        ) from None
