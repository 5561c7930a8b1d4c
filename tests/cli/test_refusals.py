"""Expected errors: one line, status 2, nothing written."""

import pathlib

import keras
import numpy as np
import pytest
import torch
from PIL import Image

from keras_lrseg import ImageClassifier, analysis, cli, data
from tests.cli.commands import call, files_in, save_torch
from tests.helpers import fill
from tests.reference import torch_state
from tests.tiny import filled, tiny_backbone
from tests.training.toys import toy_folders, toy_segmenter


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    """A folder of everything that can be wrong with what a user gives."""
    folder = tmp_path_factory.mktemp("bad")
    (folder / "empty").mkdir()
    (folder / "file").write_text("in the way")
    (folder / "folder.tflite").mkdir()
    (folder / "folder.keras").mkdir()

    def spoil(name, change):
        toy_folders(folder / name, count=2)
        (folder / name / "classes.txt").write_text("red\ngreen\nblue")
        change(folder / name / "images" / "1.png", folder / name / "masks" / "1.png")

    def save(array, path):
        Image.fromarray(array).save(path)

    spoil("no_mask", lambda image, mask: mask.unlink())
    spoil("value", lambda _, mask: save(np.full((72, 88), 7, "uint8"), mask))
    spoil("sizes", lambda _, mask: save(np.zeros((72, 87), "uint8"), mask))
    spoil("rgb", lambda _, mask: save(np.zeros((72, 88, 3), "uint8"), mask))
    spoil("truncated", lambda image, _: cut(image))
    spoil("ignored", lambda _, mask: ignore_all(mask.parent))
    spoil("no_classes", lambda image, _: None)
    (folder / "no_classes" / "classes.txt").unlink()

    model = fill(toy_segmenter())
    model.save(folder / "good.keras")
    model.save(folder / "cut.keras")
    cut(folder / "cut.keras")
    (folder / "text.keras").write_text("no model")
    toy_segmenter(4).save(folder / "four.keras")
    head = keras.layers.Conv2D(8, 1)
    filled(ImageClassifier, backbone=tiny_backbone(), num_classes=3, head=head).save(
        folder / "classifier.keras"
    )
    state = torch_state("lrformer_tiny_test")
    save_torch(folder / "t.pth", state)
    save_torch(folder / "cut.pth", state)
    cut(folder / "cut.pth")
    shallower = {k: v for k, v in state.items() if ".block3.1." not in k}
    save_torch(folder / "variant.pth", shallower)
    torch.save({"state_dict": {}, "hook": pathlib.PurePath("x")}, folder / "code.pth")
    (folder / "run").mkdir()
    (folder / "run" / "run.json").write_text("{}")
    (folder / "twin").mkdir()
    save(np.zeros((40, 40, 3), "uint8"), folder / "twin" / "1.png")
    return folder


def ignore_all(masks):
    for path in masks.iterdir():
        Image.fromarray(np.full((72, 88), 255, "uint8")).save(path)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


TRAIN = "train --model LRFormerT --steps 2 --crop 64 64 --batch 2 --out {out}"
OF = "--images {bad}/%s/images --masks {bad}/%s/masks --classes {bad}/%s/classes.txt"
EVALUATE = "evaluate {bad}/good.keras --json {out}/scores.json"
GOOD_IMAGE = "{bad}/sizes/images/0.png"


def of(name):
    return OF % (name, name, name)


TOY = (
    "--images {toy}/train/images --masks {toy}/train/masks --classes {toy}/classes.txt"
)
EXPECTED = {
    "train: unknown model, before any image is read": (
        f"{TRAIN} {of('truncated')} --model LRFormerZ",
        "'LRFormerZ' LRFormerT",
    ),
    "train: empty folder": (
        f"{TRAIN} --images {{bad}}/empty --masks {{toy}}/train/masks",
        "bad0/empty .png",
    ),
    "train: missing folder": (
        f"{TRAIN} --images {{bad}}/none --masks {{toy}}/train/masks",
        "bad0/none",
    ),
    "train: no classes file": (f"{TRAIN} {of('no_classes')}", "no_classes/classes.txt"),
    "train: image without mask": (
        f"{TRAIN} {of('no_mask')}",
        "images/1.png masks/1.png",
    ),
    "train: mask value": (f"{TRAIN} {of('value')}", "0..2 255 7 masks/1.png"),
    "train: sizes": (f"{TRAIN} {of('sizes')}", "(72, 88) (72, 87) masks/1.png"),
    "train: mask of colours": (f"{TRAIN} {of('rgb')}", "RGB masks/1.png"),
    "train: truncated image": (f"{TRAIN} {of('truncated')}", "truncated images/1.png"),
    "train: validation images alone": (
        f"{TRAIN} {TOY} --val-images {{toy}}/val/images",
        "val_images val_masks",
    ),
    "train: validation mask value": (
        f"{TRAIN} {TOY} --val-images {{bad}}/value/images "
        "--val-masks {bad}/value/masks",
        "0..2 7 masks/1.png",
    ),
    "train: another variant": (
        f"{TRAIN} {TOY} --backbone-weights {{bad}}/variant.pth",
        "variant.pth block3.1",
    ),
    "train: other classes": (f"{TRAIN} {TOY} --weights {{bad}}/t.pth", "t.pth 7 3"),
    "train: truncated checkpoint": (
        f"{TRAIN} {TOY} --weights {{bad}}/cut.pth",
        "cut.pth",
    ),
    "train: missing checkpoint": (
        f"{TRAIN} {TOY} --weights {{bad}}/none.pth",
        "none.pth",
    ),
    "train: folder under a file": (f"{TRAIN} {TOY} --out {{bad}}/file/run", "file/run"),
    "train: existing run": (f"{TRAIN} {TOY} --out {{bad}}/run", "bad0/run --resume"),
    "train: other settings": (
        f"{TRAIN} {TOY} --out {{bad}}/run --resume",
        "bad0/run settings steps",
    ),
    "train: crop below 32": (f"{TRAIN} {TOY} --crop 24 64", "24 32"),
    "evaluate: missing model": (f"evaluate {{bad}}/none.keras {TOY}", "none.keras"),
    "evaluate: no model": (f"evaluate {{bad}}/text.keras {TOY}", "text.keras"),
    "evaluate: truncated model": (f"evaluate {{bad}}/cut.keras {TOY}", "cut.keras"),
    "evaluate: image for a model": (f"evaluate {GOOD_IMAGE} {TOY}", "0.png .keras"),
    "evaluate: mask value": (f"{EVALUATE} {of('value')}", "7 masks/1.png"),
    "evaluate: nothing labelled": (
        f"{EVALUATE} {of('ignored')} --contact-sheet {{out}}/c.png",
        "No pixel labelled",
    ),
    "evaluate: sizes": (f"{EVALUATE} {of('sizes')}", "(72, 87) masks/1.png"),
    "evaluate: other classes": (
        f"evaluate {{bad}}/four.keras {TOY} --json {{out}}/scores.json",
        "4 3 red",
    ),
    "evaluate: under a file": (
        f"evaluate {{bad}}/good.keras {TOY} --json {{bad}}/file/scores.json",
        "bad0/file",
    ),
    "predict: missing image": (
        "predict {bad}/good.keras {bad}/none.jpg --out {out}",
        "none.jpg",
    ),
    "predict: truncated image": (
        "predict {bad}/good.keras {bad}/truncated/images/1.png --out {out}",
        "images/1.png truncated",
    ),
    "predict: same stems": (
        f"predict {{bad}}/good.keras {GOOD_IMAGE} {{bad}}/sizes/images/1.png "
        "{bad}/twin/1.png --out {out}",
        "same name",
    ),
    "predict: an overlay of another's name": (
        "predict {bad}/good.keras {bad}/twin/1.png {bad}/twin/1_overlay.png "
        "--out {out}",
        "same name",
    ),
    "predict: over the image": (
        f"predict {{bad}}/good.keras {GOOD_IMAGE} --out {{bad}}/sizes/images",
        "images/0.png --out",
    ),
    "predict: opacity": (
        f"predict {{bad}}/good.keras {GOOD_IMAGE} --opacity 1.5 --out {{out}}",
        "opacity 1.5",
    ),
    "predict: under a file": (
        f"predict {{bad}}/good.keras {GOOD_IMAGE} --out {{bad}}/file/labels",
        "bad0/file",
    ),
    "predict: classifier": (
        f"predict {{bad}}/classifier.keras {GOOD_IMAGE} --out {{out}}",
        "classifier.keras",
    ),
    "export: no model": (
        "export {bad}/text.keras --size 64 64 --out {out}/m.tflite",
        "text.keras",
    ),
    "export: suffix": (
        "export {bad}/good.keras --size 64 64 --out {out}/m.bin",
        ".tflite m.bin",
    ),
    "export: a folder": (
        "export {bad}/good.keras --size 64 64 --out {bad}/folder.tflite",
        "folder.tflite folder",
    ),
    "export: size": (
        "export {bad}/good.keras --size 16 64 --out {out}/m.tflite",
        "32 (16, 64)",
    ),
    "export: no calibration": (
        "export {bad}/good.keras --size 64 64 --precision int8 --out {out}/m.tflite",
        "calibration",
    ),
    "export: empty calibration": (
        "export {bad}/good.keras --size 64 64 --precision int8 "
        "--calibration {bad}/empty --out {out}/m.tflite",
        "no file empty",
    ),
    "export: precision of another format": (
        "export {bad}/good.keras --size 64 64 --precision int8 --to onnx "
        "--out {out}/m.onnx",
        "--precision int8 onnx",
    ),
    "export: unlabelled": (
        "export {bad}/good.keras --size 64 64 --images {bad} --out {out}/m.tflite",
        "--images --masks",
    ),
    "export: folder in the way": (
        "export {bad}/good.keras --to saved_model --size 64 64 --out {bad}",
        "not a SavedModel",
    ),
    "profile: unknown model": ("profile LRFormerZ --size 64 64", "'LRFormerZ'"),
    "profile: classifier of a classifier": (
        "profile LRFormerTClassifier --size 64 64 --classifier offset",
        "LRFormerTClassifier 'classifier'",
    ),
    "profile: classifier of a file": (
        "profile {bad}/good.keras --size 64 64 --classifier offset",
        "--classifier",
    ),
    "profile: size": (
        "profile LRFormerT --size 16 64 --json",
        "Images at least 32×32 16×64",
    ),
    "profile: no model": ("profile {bad}/text.keras --size 64 64", "text.keras"),
    "mine: no labelled pixel": (
        f"mine {{bad}}/good.keras {of('ignored')} --out {{out}}",
        "no labelled pixel 255",
    ),
    "mine: other classes": (
        f"mine {{bad}}/four.keras {TOY} --out {{out}}",
        "4 3 red",
    ),
    "mine: classifier": (
        f"mine {{bad}}/classifier.keras {TOY} --out {{out}}",
        "SemanticSegmenter ImageClassifier",
    ),
    "mine: rcond": (
        f"mine {{bad}}/good.keras {TOY} --rcond 1.5 --out {{out}}",
        "rcond 1.5",
    ),
    "mine: under a file": (
        f"mine {{bad}}/good.keras {TOY} --out {{bad}}/file/mined",
        "bad0/file",
    ),
    "convert: truncated": (
        "convert LRFormerT {bad}/cut.pth {out}/t.keras",
        "cut.pth",
    ),
    "convert: another variant": (
        "convert LRFormerT {bad}/variant.pth {out}/t.keras",
        "variant.pth block3.1",
    ),
    "convert: code": ("convert LRFormerT {bad}/code.pth {out}/t.keras", "code.pth"),
    "convert: suffix": ("convert LRFormerT {bad}/t.pth {out}/t.h5", ".keras t.h5"),
    "convert: a folder": (
        "convert LRFormerT {bad}/t.pth {bad}/folder.keras",
        ".keras folder",
    ),
    "convert: missing": ("convert LRFormerT {bad}/none.pth {out}/t.keras", "none.pth"),
}


@pytest.mark.parametrize("case", EXPECTED)
def test_expected_error_is_one_line_and_leaves_nothing_behind(case, bad, toy, tmp_path):
    command, words = EXPECTED[case]
    out, before = tmp_path / "out", files_in(bad)
    status, printed, err = call(command.format(bad=bad, toy=toy, out=out))
    assert status == 2
    (line,) = err.splitlines()
    assert line.startswith(f"keras-lrseg {case.partition(':')[0]}: ")
    assert all(word in line for word in words.split()), line
    assert "Traceback" not in printed
    assert not out.exists() or files_in(out) == []
    assert files_in(bad) == before


def test_places_of_a_data_set_have_a_line_each(bad, tmp_path):
    command = f"{TRAIN} --set dataset=camvid --set root={{bad}}"
    status, _, err = call(command.format(bad=bad, out=tmp_path / "out"))
    assert status == 2
    first, *places, last = err.splitlines()
    assert f"no images with masks of camvid/train in {bad}" in first
    assert sum("MISSING" in place for place in places) == 4
    assert last.startswith("It holds: ")


def test_file_that_the_training_stream_cannot_read_is_named(tmp_path):
    toy_folders(tmp_path)
    dataset = data.SegmentationDataset.from_folders(
        tmp_path / "images", tmp_path / "masks"
    )
    for path in (tmp_path / "images").iterdir():
        cut(path)
    with pytest.raises(Exception, match="Cannot read") as error:  # TensorFlow's class
        next(iter(data.training_pipeline(dataset, (32, 32), 2)))
    assert cli._expected(error.value).startswith("Cannot read the image")


def test_warning_is_one_line():
    shown = cli._warning("Found 2 images", UserWarning, "some.py", 7, line="warn()")
    assert shown == "warning: Found 2 images\n"


def test_unexpected_error_is_not_hidden(monkeypatch):
    def broken(*_):
        raise TypeError("a bug")

    monkeypatch.setattr(analysis, "profile", broken)
    with pytest.raises(TypeError, match="a bug"):
        call("profile LRFormerT --size 64 64")


def test_traceback_shows_where_an_expected_error_came_from():
    with pytest.raises(ValueError, match="There is no model 'LRFormerZ'"):
        call("profile LRFormerZ --size 64 64 --traceback")
