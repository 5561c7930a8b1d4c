"""A task that is learnt in seconds, and a model that compiles in one."""

import keras
import numpy as np
from PIL import Image

from keras_lrseg import MaskClassificationSegmenter, SemanticSegmenter
from keras_lrseg.data import SegmentationDataset
from keras_lrseg.decoders import DeformablePixelDecoder, MaskedAttentionDecoder

COLOURS = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200]], "uint8")
CLASSES = ("red", "green", "blue")


def toy_dataset(count=4, size=(72, 88), seed=0):
    """Blocks of 24 pixels in three colours, which are the classes; a row is ignored."""
    rng = np.random.default_rng(seed)
    height, width = size
    cells = rng.integers(0, 3, (count, -(-height // 24), -(-width // 24)))
    masks = np.kron(cells, np.ones((24, 24), int))[:, :height, :width].astype("uint8")
    noise = rng.integers(0, 40, (count, height, width, 3), "uint8")
    images = COLOURS[masks] + noise
    masks[:, :2] = 255
    return SegmentationDataset.from_arrays(images, masks, CLASSES, name="toy")


def toy_folders(folder, **settings):
    """Write the toy data as `folder/images` and `folder/masks`."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for i, (image, mask) in enumerate(toy_dataset(**settings)):
        Image.fromarray(image).save(folder / "images" / f"{i}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{i}.png")
    return folder


def toy_segmenter(num_classes=3, classifier=None, **settings):
    """A segmenter with batch norm, dropout and stride 4, of three convolutions."""
    images = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(8, 3, 4, padding="same", activation="relu")(images)
    backbone = keras.Model(
        images, {"P3": keras.layers.BatchNormalization(momentum=0.5)(x)}
    )
    features = keras.Input((None, None, 8), name="P3")
    x = keras.layers.Conv2D(8, 1, activation="relu")(features)
    decoder = keras.Model({"P3": features}, x, name="decoder")
    classifier = classifier or keras.layers.Conv2D(num_classes, 1, name="classifier")
    return SemanticSegmenter(
        backbone, decoder, classifier, **{"dropout_rate": 0.2, **settings}
    )


def toy_mask_segmenter(num_classes=3, dtype=None, **settings):
    """Mask2Former's decoders, as small as they can be, on four convolutions."""
    images = x = keras.Input((None, None, 3))
    pyramid = {}
    for level, stride in (("P2", 4), ("P3", 2), ("P4", 2), ("P5", 2)):
        x = keras.layers.Conv2D(
            8, 3, stride, padding="same", activation="relu", dtype=dtype
        )(x)
        pyramid[level] = x
    return MaskClassificationSegmenter(
        keras.Model(images, pyramid),
        DeformablePixelDecoder(
            32, depth=1, num_heads=1, num_points=1, hidden_channels=8, dtype=dtype
        ),
        MaskedAttentionDecoder(
            num_classes, 5, depth=1, num_heads=1, hidden_channels=8, dtype=dtype
        ),
        **settings,
    )
