"""The README that a run leaves beside its model."""

import re

import keras
import numpy as np
import pytest
from PIL import Image

from keras_lrseg import ImageClassifier
from keras_lrseg.data import ClassificationDataset
from keras_lrseg.layers import OffsetLearning
from keras_lrseg.training import ClassificationRecipe, SegmentationRecipe, run
from tests.training.toys import CLASSES, toy_dataset, toy_segmenter

SETTINGS = {"batch_size": 2, "steps": 1, "learning_rate": 1e-2}


def run_of_a_segmenter(out):
    recipe = SegmentationRecipe(crop=(64, 48), **SETTINGS)
    model = toy_segmenter(classifier=OffsetLearning(3, name="classifier"))
    run.train(model, toy_dataset(), out, recipe, validation=toy_dataset(1))


def run_of_a_classifier(out):
    images = [image for image, _ in toy_dataset()]
    dataset = ClassificationDataset(images, [0, 1, 2, 0], CLASSES, "toy")
    recipe = ClassificationRecipe(size=32, test_size=32, **SETTINGS)
    pixels = keras.Input((None, None, 3))
    backbone = keras.Model(pixels, {"P5": keras.layers.Conv2D(4, 3, 8)(pixels)})
    head = keras.layers.Conv2D(4, 1, name="head")
    model = ImageClassifier(backbone, 3, head)
    run.train(model, dataset, out, recipe, validation=dataset)


@pytest.mark.parametrize(
    ("make", "kind", "score", "noticed"),
    [
        (run_of_a_segmenter, "segmentation", "val_miou", True),
        (run_of_a_classifier, "classification", "val_top1", False),
    ],
)
def test_card_describes_the_model_and_its_example_runs(
    make, kind, score, noticed, tmp_path, monkeypatch
):
    make(tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert f"pipeline_tag: image-{kind}\n" in card
    assert "3 classes: red, green, blue." in card
    assert "| steps × batch | 1 × 2 |" in card
    assert re.search(rf"\| {score} \| \d\.\d{{4}} \|", card)
    assert ("Patent notice" in card) == noticed
    (example,) = re.findall(r"```python\n(.+?)```", card, re.S)
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.full((40, 50, 3), 200, "uint8")).save("image.jpg")
    found = {}
    exec(example, found)
    names = found["names"] if kind == "segmentation" else [found["name"]]
    assert set(names) <= set(CLASSES)
