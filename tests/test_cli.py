"""The command line: one job from training to the phone, and what goes wrong on the way.

`LRFormerT` is the authors' tiny test configuration here, and there is a model `Toy` of
three convolutions; everything else is as it is.
"""

import contextlib
import csv
import io
import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import time
from unittest import mock

import keras
import numpy as np
import pytest
import torch
from PIL import Image

from keras_lrseg import ImageClassifier, analysis, cli, models, training
from keras_lrseg.backbones.lrformer import VARIANTS
from keras_lrseg.checkpoints import load_model
from keras_lrseg.data import SegmentationDataset
from keras_lrseg.evaluation import Scores, confusion_matrix
from keras_lrseg.export import Artifact
from keras_lrseg.layers import OffsetLearning
from keras_lrseg.models.classifiers import make_classifier
from keras_lrseg.models.lrformer import DECODER_CHANNELS
from tests.helpers import (
    fill,
    filled,
    tiny_backbone,
    torch_state,
    torch_variables,
)
from tests.training.toys import COLOURS, toy_dataset, toy_folders, toy_segmenter

ROOT = pathlib.Path(__file__).parents[1]
VERBS = ("train", "evaluate", "predict", "export", "profile", "mine", "convert")
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


def call(command):
    """Run a command line; returns (status, stdout, stderr)."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch.dict(os.environ),  # a command may set it for its own process
    ):
        try:
            status = cli.main(shlex.split(command))
        except SystemExit as end:
            status = end.code
    return status, out.getvalue(), err.getvalue()


def succeed(command):
    status, out, err = call(command)
    assert status == 0, err
    return out


def files_in(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


# --- One job, from training to the phone ----------------------------------------------


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """Folders for training and validation, and a file of classes in their colours."""
    folder = tmp_path_factory.mktemp("toy")
    toy_folders(folder / "train")
    toy_folders(folder / "val", count=2, seed=1)
    lines = ("red #c82828", "green #28c828", "blue #2828c8")
    (folder / "classes.txt").write_text("\n".join(lines))
    return folder


def data_of(folder, part):
    images, masks = folder / part / "images", folder / part / "masks"
    return f"--images {images} --masks {masks} --classes {folder / 'classes.txt'}"


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


def log_of(run):
    with open(run / "log.csv") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    "backend",
    [
        "tensorflow",
        "torch",
        pytest.param("jax", marks=pytest.mark.slow),  # compiles for a minute
    ],
)
def test_lrformer_learns_a_trivial_task(backend, toy, tmp_path):
    if keras.config.backend() != backend:
        pytest.skip("runs on another backend")
    succeed(
        f"train --model LRFormerT {data_of(toy, 'train')} --crop 64 64 --batch 2 "
        f"--steps 30 --epoch-steps 10 --learning-rate 5e-3 --out {tmp_path}"
    )
    losses = [float(row["loss"]) for row in log_of(tmp_path)]
    assert len(losses) == 3
    assert losses[-1] < 0.7 * losses[0]


def test_train_warns_of_a_class_without_pixels(toy, tmp_path):
    toy_folders(tmp_path / "train")
    (tmp_path / "classes.txt").write_text("red\ngreen\nblue\nyellow")
    command = f"train --model LRFormerX {data_of(tmp_path, 'train')} --steps 1 --out x"
    _, out, _ = call(command)
    assert "warning: nothing of class 'yellow' in images" in out
    assert "'blue'" not in out


@pytest.fixture(scope="module")
def scores(toy, run):
    """What `evaluate` wrote about the two images of the validation."""
    path = toy / "new" / "scores.json"
    printed = succeed(f"evaluate {run}/model.keras {data_of(toy, 'val')} --json {path}")
    result = json.loads(path.read_text())
    assert f"mIoU {result['miou']:.4f}" in printed
    assert files_in(path.parent) == ["scores.json"]
    return result


@pytest.fixture(scope="module")
def labels(toy, run):
    """The folder where `predict` wrote labels and overlays of the same images."""
    out, images = toy / "labels", [toy / "val" / "images" / f"{i}.png" for i in (0, 1)]
    printed = succeed(
        f"predict {run}/model.keras {images[0]} {images[1]} --opacity 0.25 --out {out}"
    )
    names = [f"{i}{kind}.png" for i in (0, 1) for kind in ("", "_overlay")]
    assert files_in(out) == sorted(names)
    assert printed.split() == [str(out / name) for name in names]
    return out


def test_evaluated_scores_are_those_of_the_predicted_labels(scores, labels):
    confusion = sum(
        confusion_matrix(mask, np.asarray(Image.open(labels / f"{i}.png")), 3)
        for i, (_, mask) in enumerate(toy_dataset(2, seed=1))
    )
    expected = Scores(confusion, ("red", "green", "blue"))
    assert json.loads(expected.to_json()).items() <= scores.items()


def test_evaluated_score_is_the_last_one_of_the_training(scores, run):
    assert float(log_of(run)[-1]["val_miou"]) == pytest.approx(scores["miou"], abs=1e-6)
    assert scores["miou"] > 0.7


def test_predict_paints_labels_and_overlay_in_the_classes_colours(labels):
    for i, (image, _) in enumerate(toy_dataset(2, seed=1)):
        mask = Image.open(labels / f"{i}.png")
        assert mask.getpalette()[:9] == COLOURS.ravel().tolist()
        overlay = np.asarray(Image.open(labels / f"{i}_overlay.png")).astype(float)
        mixed = 0.75 * image + 0.25 * COLOURS[np.asarray(mask)]
        assert abs(overlay - mixed).max() <= 1


def test_export_writes_a_file_that_gives_the_predicted_labels(toy, run, labels):
    path = toy / "phone" / "model.tflite"
    printed = succeed(
        f"export {run}/model.keras --to tflite --size 72 88 --output labels "
        f"--out {path}"
    )
    assert printed.startswith(f"{path}: ")
    assert "of the labels are the model's" in printed
    with Artifact(path) as artifact:
        result = artifact.run(toy_dataset(2, seed=1)[0][0])
    assert result.shape == (18, 22)
    # The file answers at stride 4: compare with the middle of each cell.
    large = np.asarray(Image.open(labels / "0.png"))
    assert (result == large[2::4, 2::4]).mean() > 0.9


def test_profile_prints_a_table_or_one_json_object(run):
    expected = analysis.profile(load_model(run / "model.keras"), (64, 96))
    command = f"profile {run}/model.keras --size 64 96"
    assert succeed(f"{command} --json") == expected.to_json() + "\n"
    assert succeed(command) == f"{expected}\n"


def test_profile_takes_a_models_name_and_its_number_of_classes():
    command = "profile LRFormerT --size 64 64 --json"
    three = json.loads(succeed(f"{command} --num-classes 3"))
    four = json.loads(succeed(f"{command} --num-classes 4"))
    assert four["params"] - three["params"] == 64 + 1


def test_classifier_is_the_models_own_unless_one_is_given(monkeypatch):
    given = []

    def make(num_classes, **settings):
        given.append(settings)
        return toy_segmenter(num_classes)

    monkeypatch.setitem(models.SEGMENTERS, "Own", make)
    for option in ("", "--classifier pixel", "--classifier offset"):
        succeed(f"profile Own --size 64 64 {option}")
    assert given == [{}, {"classifier": "pixel"}, {"classifier": "offset"}]


def test_train_takes_a_classifier_and_resumes_with_the_same_one_only(toy, tmp_path):
    out = tmp_path / "run"
    command = f"train --model Toy {data_of(toy, 'train')} --crop 64 64 --batch 2 "
    command += f"--steps 2 --epoch-steps 2 --out {out}"
    succeed(f"{command} --classifier offset")
    assert isinstance(load_model(out / "model.keras").classifier, OffsetLearning)
    for other in ("--classifier pixel", ""):
        status, _, err = call(f"{command} --resume {other}")
        assert (status, "other settings: classifier (was 'OffsetL" in err) == (2, True)
    assert "step 2 of 2" in succeed(f"{command} --resume --classifier offset")


def test_mine_prints_a_table_and_writes_it_with_two_pictures(toy, run, scores):
    out = toy / "mined"
    printed = succeed(f"mine {run}/model.keras {data_of(toy, 'val')} --out {out}")
    assert files_in(out) == ["maps.png", "mined.json", "similarity.png"]
    mined = json.loads((out / "mined.json").read_text())
    assert mined["own"].items() <= scores.items()
    assert mined["mined"]["miou"] >= scores["miou"]
    assert list(mined["classes"]) == ["red", "green", "blue"]
    assert f"mined: mIoU {mined['mined']['miou']:.4f}" in printed
    sizes = [Image.open(out / name).size for name in ("similarity.png", "maps.png")]
    assert sizes == [(3 * 160 + 12, 186), (4 * 224 + 18, 3 * (20 + 183 + 6))]


def test_convert_keeps_every_weight_of_a_published_checkpoint(tmp_path):
    state = torch_state("lrformer_tiny_test")
    save_torch(tmp_path / "t.pth", state)
    path = tmp_path / "new" / "t.keras"
    printed = succeed(f"convert LRFormerT {tmp_path}/t.pth {path}")
    assert printed == f"{path}: LRFormerT with 7 classes\n"
    model = load_model(path)
    for key, variable in torch_variables(model).items():
        values = keras.ops.convert_to_numpy(variable)
        assert np.isclose(values.sum(), state[key].sum(), atol=1e-3), key
        np.testing.assert_array_equal(np.sort(values, None), np.sort(state[key], None))


def test_convert_for_other_classes_keeps_all_but_the_head(tmp_path):
    state = torch_state("lrformer_tiny_test")
    save_torch(tmp_path / "t.pth", state)
    succeed(
        f"convert LRFormerT {tmp_path}/t.pth {tmp_path}/t.keras --num-classes 3 "
        "--reset-head"
    )
    model = load_model(tmp_path / "t.keras")
    assert model.num_classes == 3
    variables = torch_variables(model)
    key = "backbone.block1.0.attn.q.0.weight"
    values = keras.ops.convert_to_numpy(variables[key])
    np.testing.assert_array_equal(values, state[key].reshape(values.shape).T)


def save_torch(path, state):
    tensors = {key: torch.from_numpy(value) for key, value in state.items()}
    torch.save({"state_dict": tensors}, path)


# --- Help -----------------------------------------------------------------------------


@pytest.mark.parametrize("verb", VERBS)
def test_help_shows_an_example(verb):
    status, out, _ = call(f"{verb} --help")
    assert status == 0
    assert f"example: {cli.VERBS[verb].EXAMPLE}" in " ".join(out.split())


@pytest.mark.parametrize("verb", VERBS)
def test_example_is_a_command_that_is_understood(verb):
    program, *arguments = shlex.split(cli.VERBS[verb].EXAMPLE)
    assert program == "keras-lrseg"
    assert cli._parser().parse_args(arguments).verb == verb


def test_help_lists_every_verb():
    status, out, _ = call("--help")
    assert status == 0
    assert all(verb in out for verb in VERBS)


@pytest.mark.parametrize(
    "command",
    [
        "",
        "paint",
        "profile LRFormerT --size 0 64",
        "profile LRFormerT --size 64 64 --classifier mask",
        "export m --size 64",
    ],
)
def test_command_that_is_not_understood_has_status_2(command):
    status, _, err = call(command)
    assert status == 2
    assert "keras-lrseg" in err


# --- Expected errors: one line, status 2, nothing written -----------------------------


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    """A folder of everything that can be wrong with what a user gives."""
    folder = tmp_path_factory.mktemp("bad")
    (folder / "empty").mkdir()
    (folder / "file").write_text("in the way")

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
    "train: unknown model": (
        f"{TRAIN} {TOY} --model LRFormerZ",
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
        "no SavedModel",
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
    "profile: size": ("profile LRFormerT --size 16 64 --json", "16 32"),
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


def test_unexpected_error_is_not_hidden(monkeypatch):
    def broken(*_):
        raise TypeError("a bug")

    monkeypatch.setattr(analysis, "profile", broken)
    with pytest.raises(TypeError, match="a bug"):
        call("profile LRFormerT --size 64 64")


def test_traceback_shows_where_an_expected_error_came_from():
    with pytest.raises(ValueError, match="There is no model 'LRFormerZ'"):
        call("profile LRFormerZ --size 64 64 --traceback")


# --- Processes ------------------------------------------------------------------------


def process(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "keras_lrseg.cli", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
    )


def test_json_is_all_that_is_on_stdout(run):
    result = process("profile", f"{run}/model.keras", "--size", "64", "64", "--json")
    assert result.returncode == 0
    assert json.loads(result.stdout)["flops"] > 0


def test_backend_that_is_not_installed_is_named_with_the_command(tmp_path):
    backend = keras.config.backend()
    (tmp_path / f"{backend}.py").write_text(
        f"raise ModuleNotFoundError('No module named {backend}', name='{backend}')"
    )
    result = process(
        "profile", "LRFormerT", "--size", "64", "64", PYTHONPATH=str(tmp_path)
    )
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"keras-lrseg profile: the backend '{backend}'")
    assert f"pip install 'keras-lrseg[{backend}]'" in line


INTERRUPTED = """
import sys
from keras_lrseg import cli, models
from tests.training.toys import toy_segmenter
models.SEGMENTERS["Toy"] = lambda num_classes, **_: toy_segmenter(num_classes)
sys.exit(cli.main(sys.argv[1:]))
"""


def test_ctrl_c_ends_a_training_and_says_how_to_go_on(toy, tmp_path):
    out = tmp_path / "run"
    command = f"train --model Toy {data_of(toy, 'train')} --crop 64 64 --batch 2 "
    command += f"--steps 1000000 --epoch-steps 5 --out {out}"
    child = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, *shlex.split(command)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        # In the background Ctrl-C would be ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    try:
        for _ in range(2000):
            if list(out.glob("checkpoints/step_*.npz")) or child.poll() is not None:
                break
            time.sleep(0.05)
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=60)
    finally:
        child.kill()
    assert child.returncode == 130
    assert "Traceback" not in err
    assert "Interrupted." in err.splitlines()[-1]
    assert "--resume" in err.splitlines()[-1]
    assert not (out / "model.keras").exists()


def test_interrupted_command_goes_on_with_resume(toy, tmp_path, monkeypatch):
    class Interrupting(training.Checkpoint):
        def on_epoch_end(self, epoch, logs=None):
            super().on_epoch_end(epoch, logs)
            raise KeyboardInterrupt

    command = f"train --model Toy {data_of(toy, 'train')} --crop 64 64 --batch 2 "
    command += f"--steps 4 --epoch-steps 2 --out {tmp_path / 'run'}"
    with monkeypatch.context() as patch:
        patch.setattr(training.run, "Checkpoint", Interrupting)
        status, _, err = call(command)
    assert (status, "--resume" in err) == (130, True)
    assert "Resuming at step 2 of 4" in succeed(f"{command} --resume")
    assert "Resuming at step 4 of 4" in succeed(f"{command} --resume")
    dataset = SegmentationDataset.from_folders(
        toy / "train" / "images", toy / "train" / "masks", toy / "classes.txt"
    )
    assert (
        tuple(load_model(tmp_path / "run" / "model.keras").classes) == dataset.classes
    )
