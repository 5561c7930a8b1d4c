"""`keras-lrseg evaluate`: what its options do, what it writes, what it refuses."""

import argparse
import csv
import json
import os
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from PIL import Image

from keras_lrseg import ImageClassifier, cli, data, evaluation
from keras_lrseg.checkpoints import load_model
from tests.cli.commands import ROOT, call, files_in, succeed
from tests.helpers import fill
from tests.tiny import filled, tiny_backbone
from tests.training.toys import toy_dataset, toy_folders, toy_segmenter

CLASSES = ("red", "green", "blue")
WINDOWS = "--short-side 60 --long-side 240 --window 48 40 --stride 30 25"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A segmenter, a classifier, and images for both."""
    folder = tmp_path_factory.mktemp("evaluate")
    toy_folders(folder, count=3)
    (folder / "classes.txt").write_text("\n".join(CLASSES))
    fill(toy_segmenter()).save(folder / "model.keras")
    head = keras.layers.Conv2D(8, 1)
    filled(ImageClassifier, backbone=tiny_backbone(), num_classes=3, head=head).save(
        folder / "classifier.keras"
    )
    for i, (image, _) in enumerate(toy_dataset(3)):
        for name in ("sorted", "two")[: 3 - i]:  # "two" without the third class
            path = folder / name / CLASSES[i] / f"{i}.png"
            path.parent.mkdir(parents=True)
            Image.fromarray(image).save(path)
    return folder


def command(folder, options=""):
    return (
        f"evaluate {folder}/model.keras --images {folder}/images "
        f"--masks {folder}/masks --classes {folder}/classes.txt {options}"
    )


def evaluated(folder, **settings):
    return evaluation.evaluate(
        load_model(folder / "model.keras"),
        toy_dataset(3),
        evaluation.TestSettings(**settings),
    )


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ("", {}),
        (
            WINDOWS,
            {
                "short_side": 60,
                "long_side": 240,
                "window": (48, 40),
                "stride": (30, 25),
            },
        ),
        (
            "--align 64 --scales 0.5 1.5 --flip",
            {"align": 64, "scales": (0.5, 1.5), "flip": True},
        ),
        ("--pad 64", {"pad": 64}),
    ],
)
def test_options_are_the_settings_of_the_test(options, settings, folder, tmp_path):
    printed = succeed(command(folder, f"{options} --json {tmp_path}/scores.json"))
    expected = evaluated(folder, **settings)
    assert str(expected) in printed
    written = json.loads((tmp_path / "scores.json").read_text())
    images = written.pop("images")
    assert images[0]["name"] == str(folder / "images" / "0.png")
    expected = json.loads(expected.to_json())
    assert [x["miou"] for x in images] == [x["miou"] for x in expected.pop("images")]
    assert written == expected


def test_three_files_are_written_and_nothing_else(folder, tmp_path):
    out = tmp_path / "new"
    files = f"--json {out}/a.json --csv {out}/b.csv --contact-sheet {out}/c.png"
    succeed(command(folder, f"{WINDOWS} {files}"))
    assert files_in(out) == ["a.json", "b.csv", "c.png"]
    assert json.loads((out / "a.json").read_text())["settings"]["window"] == [48, 40]
    with open(out / "b.csv") as file:
        assert [row["class"] for row in csv.DictReader(file)] == list(CLASSES)
    assert Image.open(out / "c.png").size[0] == 3 * 256 + 2 * 6


def test_scores_are_kept_where_the_picture_fails(folder, tmp_path, monkeypatch):
    from keras_lrseg import analysis

    def fail(*_, **__):
        raise ValueError("no picture")

    monkeypatch.setattr(analysis, "contact_sheet", fail)
    files = f"--json {tmp_path}/a.json --contact-sheet {tmp_path}/c.png"
    status, _, err = call(command(folder, f"{WINDOWS} {files}"))
    assert (status, "no picture" in err) == (2, True)
    assert files_in(tmp_path) == ["a.json"]


def test_contact_sheet_shows_the_worst_and_the_best_as_they_were_tested(
    folder, tmp_path, monkeypatch
):
    from keras_lrseg import analysis

    drawn = []
    monkeypatch.setattr(
        analysis,
        "contact_sheet",
        lambda *arguments, captions: drawn.append((*arguments, captions)),
    )
    succeed(command(folder, f"{WINDOWS} --contact-sheet {tmp_path}/c.png"))
    ((model, dataset, _, rows, shown_with, captions),) = drawn
    scores = evaluation.evaluate(model, dataset, shown_with)
    order = np.argsort(scores.image_miou).tolist()
    assert rows == order
    worst = f"{dataset.images[rows[0]].name}: mIoU {scores.image_miou[rows[0]]:.3f}"
    assert captions[0] == worst
    settings = {"short_side": 60, "long_side": 240}
    windows = {"window": (48, 40), "stride": (30, 25)}
    expected = evaluated(folder, **settings, **windows)
    np.testing.assert_array_equal(scores.confusion, expected.confusion)


def test_colours_are_the_models_and_with_classes_those_of_the_file(folder, tmp_path):
    from keras_lrseg.cli.options import labelled

    model = toy_segmenter(palette=[[1, 2, 3], [4, 5, 6], [7, 8, 9]])
    (tmp_path / "classes.txt").write_text("a #0a0b0c\nb\nc\n")
    given = {"images": folder / "images", "masks": folder / "masks"}
    dataset = labelled(argparse.Namespace(**given, classes=None), model)
    assert dataset.palette.tolist() == model.palette
    own = argparse.Namespace(**given, classes=tmp_path / "classes.txt")
    assert labelled(own, model).palette[0].tolist() == [10, 11, 12]


def test_public_data_set_is_tested_as_its_paper_says(folder, monkeypatch):
    asked = []

    def load(name, root, split):
        asked.append((name, root, split))
        return toy_dataset(1)

    monkeypatch.setattr(data, "load_dataset", load)
    tested, result = [], evaluated(folder)

    def evaluate(model, dataset, settings, progress):
        tested.append(settings)
        return result

    monkeypatch.setattr(evaluation, "evaluate", evaluate)
    start = f"evaluate {folder}/model.keras --dataset ade20k --root ade"
    succeed(f"{start} --paper LRFormer")
    succeed(f"{start} --paper OffSeg --flip --scales 1 2 --split train")
    succeed(start)
    assert asked == [
        ("ade20k", "ade", s) for s in ("validation", "train", "validation")
    ]
    paper = evaluation.paper_settings
    assert tested[0] == paper("ade20k", "LRFormer")
    assert tested[1].window == paper("ade20k", "OffSeg").window
    assert (tested[1].flip, tested[1].scales) == (True, (1.0, 2.0))
    assert tested[2] == evaluation.TestSettings()


def test_classifier_is_recognised_and_scored(folder, tmp_path):
    start = f"evaluate {folder}/classifier.keras --images {folder}/sorted"
    files = f"--json {tmp_path}/a.json --csv {tmp_path}/b.csv"
    printed = succeed(f"{start} --crop 64 --batch 2 {files}")
    dataset = data.ClassificationDataset.from_folders(folder / "sorted")
    model = load_model(folder / "classifier.keras")
    expected = evaluation.evaluate_classifier(model, dataset, 64, 2)
    assert str(expected) in printed
    assert json.loads((tmp_path / "a.json").read_text())["top5"] == 1
    assert (tmp_path / "b.csv").read_text() == expected.to_csv()


CLASSIFIER = "evaluate {folder}/classifier.keras --images {folder}/sorted"
REFUSED = {
    "window below 32": (
        "{command} --window 31 64 --stride 16 16",
        "window 32 (31, 64)",
    ),
    "stride beyond the window": (
        "{command} --window 48 48 --stride 48 49",
        "stride (48, 49) (48, 48)",
    ),
    "window alone": ("{command} --window 48 48", "window stride"),
    "short side alone": ("{command} --short-side 64", "short_side long_side"),
    "scales": ("{command} --scales 1 -0.5", "scales -0.5"),
    "json is a folder": ("{command} --json {folder}/images", "images folder"),
    "csv under a file": ("{command} --csv {folder}/classes.txt/b.csv", "classes.txt"),
    "picture of another kind": ("{command} --contact-sheet {out}/c.txt", ".txt"),
    "one file twice": ("{command} --json {out}/a --csv {out}/a", "--json --csv"),
    "root alone": ("{command} --root here", "--root --dataset"),
    "paper alone": ("{command} --paper LRFormer", "--paper --dataset"),
    "data set and images": ("{command} --dataset ade20k", "--dataset --images"),
    "data set without root": (
        "evaluate {folder}/model.keras --dataset ade20k",
        "ade20k --root",
    ),
    "unknown data set": (
        "evaluate {folder}/model.keras --dataset mars --root {folder}",
        "mars ade20k",
    ),
    "no masks": (
        "evaluate {folder}/model.keras --images {folder}/images",
        "--masks --dataset",
    ),
    "batch of a segmenter": ("{command} --batch 2", "--batch classifiers model.keras"),
    "masks of a classifier": (
        f"{CLASSIFIER} --masks {{folder}}/masks",
        "--masks segmenters classifier.keras",
    ),
    "window of a classifier": (
        f"{CLASSIFIER} --window 64 64 --stride 32 32",
        "--window segmenters",
    ),
    "contact sheet of a classifier": (
        f"{CLASSIFIER} --contact-sheet {{out}}/c.png",
        "--contact-sheet segmenters",
    ),
    "classifier without images": (
        "evaluate {folder}/classifier.keras",
        "--images folder",
    ),
    "image of no class": (f"{CLASSIFIER}/red --json {{out}}/a.json", "0.png"),
    "other number of classes": (
        "evaluate {folder}/classifier.keras --images {folder}/two",
        "3 classes 2",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusal_is_one_line_and_leaves_nothing_behind(case, folder, tmp_path):
    text, words = REFUSED[case]
    out, before = tmp_path / "out", files_in(folder)
    text = text.format(command=command(folder), folder=folder, out=out)
    status, _, err = call(text)
    assert status == 2
    (line,) = err.splitlines()
    assert line.startswith("keras-lrseg evaluate: ")
    assert all(word in line for word in words.split()), line
    assert files_in(folder) == before
    assert not out.exists() or files_in(out) == []


def test_files_are_tried_before_the_work(folder, monkeypatch):
    monkeypatch.setattr(evaluation, "evaluate", None)  # would fail otherwise
    status, _, err = call(command(folder, f"--json {folder}/images"))
    assert (status, "images" in err) == (2, True)


def test_ctrl_c_leaves_no_file_behind(folder, tmp_path):
    def interrupted(*_, **__):
        assert files_in(tmp_path)  # its place was tried
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "evaluate", interrupted)
        status, _, err = call(command(folder, f"--json {tmp_path}/a.json"))
    assert status == 130
    assert err.splitlines()[-1] == cli.evaluate.INTERRUPTED
    assert files_in(tmp_path) == []


def test_ctrl_c_ends_a_long_evaluation(folder, tmp_path):
    many, out = tmp_path / "many", tmp_path / "out"
    for part in ("images", "masks"):
        (many / part).mkdir(parents=True)
        (source, *_) = sorted((folder / part).iterdir())
        for i in range(20_000):
            (many / part / f"{i}.png").hardlink_to(source)
    out.mkdir()
    arguments = f"evaluate {folder}/model.keras --images {many}/images --masks "
    arguments += f"{many}/masks --classes {folder}/classes.txt --json {out}/a.json"
    child = subprocess.Popen(
        [sys.executable, "-m", "keras_lrseg.cli", *arguments.split()],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        # In the background Ctrl-C would be ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    try:
        for _ in range(1200):
            if files_in(out) or child.poll() is not None:
                break
            time.sleep(0.05)
        time.sleep(2)
        assert child.poll() is None, "it ended before it could be interrupted"
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=60)
    finally:
        child.kill()
    assert child.returncode == 130, err
    assert "Traceback" not in err
    assert files_in(out) == []
