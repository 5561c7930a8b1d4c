"""What the training of an image classifier adds to a recipe."""

import dataclasses
import pathlib
import warnings

import keras

from keras_lrseg import data, models
from keras_lrseg.backbones.inputs import MIN_SIZE
from keras_lrseg.training.callbacks import ClassifierValidation
from keras_lrseg.training.losses import ClassificationCrossEntropy
from keras_lrseg.training.recipe import Recipe


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassificationRecipe(Recipe):
    """The numbers of a classifier's training. Those of every training are `Recipe`'s.

    Args:
        size: side of the training images, in pixels.
        test_size: side of the validation images, in pixels.
        crop_scale: range of the random crop's share of the image.
        magnitude: of RandAugment.
        erasing: probability that a rectangle is erased.
        mixup, cutmix: parameters of their Beta distributions; 0 turns one off.
        label_smoothing: 0..1.
        pool_size: LRFormer's query grid; None: the model's own.
    """

    size: int = 224
    test_size: int = 224
    crop_scale: tuple[float, float] = (0.08, 1.0)
    magnitude: float = 9.0
    erasing: float = 0.25
    mixup: float = 0.8
    cutmix: float = 1.0
    label_smoothing: float = 0.1
    pool_size: int | None = None

    initial_remedy = "--set weights=FILE (trained with recipes/imagenet22k.py)"
    known_models = models.CLASSIFIERS

    def __post_init__(self):
        super().__post_init__()
        for name in ("size", "test_size"):
            if getattr(self, name) < MIN_SIZE:
                raise ValueError(
                    f"{name} expects {MIN_SIZE} pixels or more. "
                    f"Received: {getattr(self, name)}"
                )
        if self.pool_size is not None and self.pool_size < 2:
            raise ValueError(
                f"pool_size expects 2 or more, or none. Received: {self.pool_size}"
            )
        data.check_classification_augmentation(
            self.batch_size // self.accumulation_steps,
            self.crop_scale,
            self.magnitude,
            self.erasing,
            self.mixup,
            self.cutmix,
            self.label_smoothing,
        )

    def load(self, split: str, train=None):
        """Return the images of `root/train` or `root/val`, in a folder for each class.

        None if there is no `root/val`: ImageNet-22K has none.

        Args:
            split: "train" or "validation".
            train: the training data, whose classes those of the validation are.

        Raises:
            ValueError, FileNotFoundError: if they are not there.
        """
        if self.root is None:
            raise ValueError(f"Type --set root=DIR, the folder of {self.dataset}.")
        folder = (
            pathlib.Path(self.root) / {"train": "train", "validation": "val"}[split]
        )
        if split == "validation" and not folder.is_dir():
            return None
        dataset = data.ClassificationDataset.from_folders(
            folder, train and train.classes
        )
        published = self.num_classes()
        if train is None and published not in (None, dataset.num_classes):
            warnings.warn(
                f"Found {dataset.num_classes} folders of classes in {folder}, where "
                f"{self.dataset} has {published}.",
                stacklevel=2,
            )
        return dataset

    def build(self, num_classes: int) -> keras.Model:
        """Return the model, with its initial weights."""
        settings = {} if self.pool_size is None else {"pool_size": self.pool_size}
        return self._build(num_classes, **settings)

    def stream(self, dataset, batch_size: int, **position):
        """Return the endless stream of batches for `fit`, as `SegmentationRecipe`."""
        return data.classification_pipeline(
            dataset,
            self.input_size,
            batch_size,
            seed=self.seed,
            scale=self.crop_scale,
            magnitude=self.magnitude,
            erasing=self.erasing,
            mixup=self.mixup,
            cutmix=self.cutmix,
            label_smoothing=self.label_smoothing,
            **position,
        )

    def loss(self, model: keras.Model) -> keras.losses.Loss:
        return ClassificationCrossEntropy()

    def validation(self, dataset, progress=None) -> keras.callbacks.Callback:
        return ClassifierValidation(dataset, self.test_size, progress)

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) of what the model trains on, in pixels."""
        return (self.size, self.size)

    def num_classes(self) -> int | None:
        """Classes of the data, as far as they are known without it."""
        return {"imagenet1k": 1000, "imagenet22k": 21841}.get(self.dataset)
