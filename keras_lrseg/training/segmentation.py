"""What the training of a segmenter adds to a recipe."""

import dataclasses
import pathlib

import keras

from keras_lrseg import data, models
from keras_lrseg.backbones.inputs import MIN_SIZE
from keras_lrseg.evaluation import TestSettings
from keras_lrseg.training.callbacks import Validation
from keras_lrseg.training.losses import SegmentationCrossEntropy
from keras_lrseg.training.mask_losses import MaskClassificationLoss
from keras_lrseg.training.recipe import Recipe

WHOLE_IMAGE = TestSettings()


@dataclasses.dataclass(frozen=True, kw_only=True)
class SegmentationRecipe(Recipe):
    """The numbers of a segmenter's training. Those of every training are `Recipe`'s.

    Args:
        classifier: "pixel" or "offset"; None: the model's own.
        crop: (height, width) of the training crops, in pixels.
        scale, short_side, max_class_share, photometric: of `training_pipeline`.
        dropout_rate: before the classifier; None: the model's own.
        images, masks, val_images, val_masks, classes: folders of one's own and a file
            of class names, with `dataset="folders"`.
        test: how images are prepared for validation.
    """

    dataset: str = "folders"
    classifier: str | None = None
    crop: tuple[int, int]
    scale: tuple[float, float] = (0.5, 2.0)
    short_side: int | None = None
    max_class_share: float = 0.75
    photometric: bool = True
    dropout_rate: float | None = None
    images: str | None = None
    masks: str | None = None
    val_images: str | None = None
    val_masks: str | None = None
    classes: str | None = None
    test: TestSettings = WHOLE_IMAGE

    def __post_init__(self):
        super().__post_init__()
        if min(self.crop) < MIN_SIZE:
            raise ValueError(
                f"crop expects at least {MIN_SIZE} pixels a side. Received: {self.crop}"
            )
        of_folders = "images", "masks", "val_images", "val_masks", "classes"
        without_effect = ("root",) if self.dataset == "folders" else of_folders
        if given := [name for name in without_effect if getattr(self, name)]:
            raise ValueError(
                f"{', '.join(given)}: of no effect with dataset={self.dataset!r}. "
                "Public data sets have a root, folders of your own the others."
            )
        data.check_augmentation(self.scale, self.short_side, self.max_class_share)
        if self.dropout_rate is not None:
            self._check_range("dropout_rate", 0, 1)

    known_models = models.SEGMENTERS

    @property
    def initial_remedy(self) -> str:
        """What to type where the weights that the paper starts from are missing."""
        recipe = {"ImageNet-22K": "imagenet22k"}.get(self.initial, "imagenet1k")
        trained = f", or a classifier trained with recipes/{recipe}.py"
        own = trained if self.model.startswith("LRFormer") else ""
        return f"--set backbone_weights=FILE (a published checkpoint{own})"

    def load(self, split: str, train=None):
        """Return the dataset of "train" or "validation"; None if there is none.

        Args:
            split: of the two.
            train: the training data, whose classes those of the validation are.

        Raises:
            ValueError, FileNotFoundError: if it is not there.
        """
        if self.dataset != "folders":
            if self.root is None:
                raise ValueError(f"Type --set root=DIR, the folder of {self.dataset}.")
            return data.load_dataset(self.dataset, self.root, split)
        folders = {
            "train": (self.images, self.masks),
            "validation": (self.val_images, self.val_masks),
        }[split]
        if split == "validation" and not any(folders):
            return None
        if not all(folders):
            names = "images and masks" if split == "train" else "val_images, val_masks"
            raise ValueError(f"{names} go together: folders of images and their masks.")
        classes = self.classes or (train and train.classes)
        return data.SegmentationDataset.from_folders(
            *folders, classes, name=str(folders[0])
        )

    def build(self, num_classes: int) -> keras.Model:
        """Return the model, with its initial weights."""
        settings = {"classifier": self.classifier, "dropout_rate": self.dropout_rate}
        given = {name: value for name, value in settings.items() if value is not None}
        return self._build(num_classes, **given)

    def stream(self, dataset, batch_size: int, **position):
        """Return the endless stream of batches for `fit`.

        Args:
            dataset: what `load` gave.
            batch_size: images in a batch of this process.
            position: `start_step` and `shard` of the pipeline.
        """
        return data.training_pipeline(
            dataset,
            self.crop,
            batch_size,
            seed=self.seed,
            scale=self.scale,
            short_side=self.short_side,
            max_class_share=self.max_class_share,
            photometric=self.photometric,
            **position,
        )

    def loss(self, model: keras.Model) -> keras.losses.Loss:
        """Return the loss of pixels, or of masks for a model that classifies masks."""
        if isinstance(model, models.MaskClassificationSegmenter):
            return MaskClassificationLoss()
        return SegmentationCrossEntropy()

    def validation(self, dataset, progress=None) -> keras.callbacks.Callback:
        return Validation(dataset, self.test, progress)

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) of what the model trains on, in pixels."""
        return self.crop

    def num_classes(self) -> int | None:
        """Classes of the data, as far as they are known without it."""
        if self.dataset in data.DATASETS:
            return len(data.read_classes(data.DATASETS[self.dataset].classes)[0])
        if self.classes and pathlib.Path(self.classes).is_file():
            return len(data.read_classes(self.classes)[0])
        return None
