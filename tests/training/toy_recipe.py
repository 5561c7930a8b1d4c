"""A recipe of a model that trains in seconds; `--root` is a folder of CamVid's layout.

Running it also divides the CPU into DEVICES for TensorFlow; JAX has XLA_FLAGS for that.
"""

import os

import keras

from keras_lrseg import ImageClassifier, models
from keras_lrseg.training import (
    ClassificationRecipe,
    SegmentationRecipe,
    recipe_rows,
)
from tests.training.distribution_worker import small_segmenter

models.SEGMENTERS["Toy"] = lambda num_classes, **_: small_segmenter(num_classes)

if keras.config.backend() == "tensorflow" and "DEVICES" in os.environ:
    import tensorflow as tf

    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * int(os.environ["DEVICES"]),
    )


def colour_classifier(num_classes, **_):
    images = keras.Input((None, None, 3))
    backbone = keras.Model(images, {"P5": keras.layers.Conv2D(8, 3, 4)(images)})
    return ImageClassifier(backbone, num_classes, keras.layers.ReLU())


models.CLASSIFIERS["ToyClassifier"] = colour_classifier

SHORT = {
    "batch_size": 4,
    "steps": 4,
    "epoch_steps": 2,
    "learning_rate": 1e-3,
    "warmup_steps": 2,  # Adam's first steps follow the signs of the smallest gradients
}
RECIPES = {
    **recipe_rows(
        SegmentationRecipe(dataset="camvid", crop=(64, 64), **SHORT),
        "initial",
        ("Toy", None),
        ("Toy/trained", "ImageNet-1K"),
    ),
    **recipe_rows(
        ClassificationRecipe(
            dataset="imagenet1k", size=32, test_size=32, schedule="cosine", **SHORT
        ),
        "accumulation_steps",
        ("ToyClassifier", 2),
    ),
}
