"""Small generated images and masks, in folders and in memory."""

import pathlib

import keras
import numpy as np
import pytest
from PIL import Image

from keras_lrseg.data import SegmentationDataset


def pytest_collection_modifyitems(items):
    """Nothing here touches a backend but `fit`: once is enough."""
    once = pytest.mark.skipif(
        keras.config.backend() != "torch", reason="runs on PyTorch, the same on all"
    )
    for item in items:
        here = pathlib.Path(__file__).parent in item.path.parents
        if here and not item.name.startswith("test_fit"):
            item.add_marker(once)


def random_pair(rng, height, width, num_classes=4):
    """Smooth colours, and labels in blocks with some ignored pixels."""
    blocks = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), np.uint8)
    image = np.asarray(Image.fromarray(blocks).resize((width, height)))
    labels = rng.integers(0, num_classes, (height // 16 + 1, width // 16 + 1))
    mask = np.kron(labels, np.ones((16, 16), int))[:height, :width].astype(np.uint8)
    mask[: height // 10] = 255
    return image, mask


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def arrays(rng):
    """Eleven pairs of differing sizes, with four classes."""
    sizes = [(40 + 7 * i, 90 - 5 * i) for i in range(11)]
    pairs = [random_pair(rng, *size) for size in sizes]
    return SegmentationDataset.from_arrays(
        *map(list, zip(*pairs, strict=True)), ["a", "b", "c", "d"]
    )


@pytest.fixture
def folders(tmp_path, rng):
    """Folders with three images (jpg, png, bmp) and their masks (L, P, L)."""
    images, masks = tmp_path / "images", tmp_path / "masks"
    images.mkdir()
    masks.mkdir()
    for stem, suffix in (("a", "jpg"), ("b", "png"), ("c", "bmp")):
        image, mask = random_pair(rng, 48, 64)
        Image.fromarray(image).save(images / f"{stem}.{suffix}")
        picture = Image.fromarray(mask)
        if stem == "b":
            picture.putpalette(np.arange(768, dtype=np.uint8).tobytes())
        picture.save(masks / f"{stem}.png")
    return images, masks
