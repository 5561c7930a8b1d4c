"""What the training of an image classifier adds to a recipe."""

import dataclasses
import pathlib

import keras

from keras_lrseg import data
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
        return data.ClassificationDataset.from_folders(folder, train and train.classes)

    def build(self, num_classes: int) -> keras.Model:
        """Return the model, with its initial weights."""
        settings = {"pool_size": self.pool_size} if self.pool_size else {}
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
