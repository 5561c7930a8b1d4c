"""What the tests of commands share.

`LRFormerT` is the authors' tiny test configuration here, and there is a model `Toy` of
three convolutions; everything else is as it is.
"""

import pytest

from keras_lrseg import models
from keras_lrseg.backbones.lrformer import VARIANTS
from keras_lrseg.models.classifiers import make_classifier
from keras_lrseg.models.lrformer import DECODER_CHANNELS
from tests.cli.commands import data_of, succeed
from tests.training.toys import toy_folders, toy_segmenter

TINY = {
    "channels": (24, 48, 96, 128),
    "depths": (1, 1, 2, 1),
    "num_heads": (1, 2, 4, 4),
    "drop_path_rate": 0.0,
}


def make_toy(num_classes, classifier=None, **_):
    head = classifier and make_classifier(classifier, num_classes)
    return toy_segmenter(num_classes, head)


@pytest.fixture(scope="module", autouse=True)
def small_models():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(models.SEGMENTERS, "Toy", make_toy)
        patch.setitem(VARIANTS, "T", TINY)
        patch.setitem(DECODER_CHANNELS, "T", 64)
        yield


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """Folders for training and validation, and a file of classes in their colours."""
    folder = tmp_path_factory.mktemp("toy")
    toy_folders(folder / "train")
    toy_folders(folder / "val", count=2, seed=1)
    lines = ("red #c82828", "green #28c828", "blue #2828c8")
    (folder / "classes.txt").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def run(toy):
    """The folder of a training run."""
    out = toy / "run"
    printed = succeed(
        f"train --model Toy {data_of(toy, 'train')} --val-images {toy}/val/images "
        f"--val-masks {toy}/val/masks --crop 64 64 --batch 2 --steps 40 "
        f"--epoch-steps 20 --learning-rate 3e-2 --out {out}"
    )
    assert printed.splitlines()[-1] == f"Model: {out / 'model.keras'}"
    return out
