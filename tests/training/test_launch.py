"""`keras-lrseg train RECIPE.py`, as a person types it, on one device and on two."""

import csv
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time
from contextlib import nullcontext

import keras
import numpy as np
import pytest
from PIL import Image

from keras_lrseg.checkpoints import load_model
from keras_lrseg.cli import main
from keras_lrseg.training import launch
from keras_lrseg.training.distribution import Devices
from tests.training.toys import toy_dataset

BACKEND = keras.config.backend()
RECIPE = pathlib.Path(__file__).with_name("toy_recipe.py")
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


@pytest.fixture(scope="module")
def camvid(tmp_path_factory):
    """The toy task with the files and labels of CamVid."""
    root = tmp_path_factory.mktemp("camvid")
    for split, count, seed in (("train", 6, 0), ("val", 2, 1)):
        for part in ("images", "masks"):
            (root / split / part).mkdir(parents=True)
        for i, (image, mask) in enumerate(toy_dataset(count, seed=seed)):
            Image.fromarray(image).save(root / split / "images" / f"{i}.png")
            Image.fromarray(mask).save(root / split / "masks" / f"{i}.png")
    return root


def train(root, out, *arguments, model="Toy"):
    command = ["train", str(RECIPE), "--model", model, "--root", str(root)]
    return main([*command, "--out", str(out), *arguments])


def start(devices, root, out, *arguments, **environment):
    """The same in a process of its own that sees so many devices."""
    torchrun = TORCHRUN if BACKEND == "torch" and devices > 1 else []
    command = ["-m", "keras_lrseg.cli", "train", str(RECIPE), "--model", "Toy"]
    command += ["--root", str(root), "--out", str(out), *arguments]
    return subprocess.Popen(
        [sys.executable, *torchrun, *command],
        env={
            **os.environ,
            "DEVICES": str(devices),
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(RECIPE.parents[2]),
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    out, err = process.communicate()
    assert process.returncode == 0, err[-3000:]
    return out


def train_on(devices, root, out, *arguments):
    return finish(start(devices, root, out, *arguments))


def last_state(out, step=4):
    """All variables of the last checkpoint but random states."""
    with np.load(out / "checkpoints" / f"step_{step:08d}.npz") as file:
        return [file[name] for name in file.files if file[name].dtype == "float32"]


@pytest.mark.filterwarnings("ignore:Found .* images of camvid")
def test_recipe_leaves_model_curve_and_contact_sheet(camvid, tmp_path, capsys):
    assert train(camvid, tmp_path / "run") == 0
    left = {p.name for p in (tmp_path / "run").iterdir()}
    pictures = {"curve.png", "contact_sheet.png"}
    logs = {"log.csv", "run.json", "tensorboard", "checkpoints"}
    assert left == {"model.keras", "README.md", *pictures, *logs}
    for name in pictures:
        assert min(Image.open(tmp_path / "run" / name).size) > 100
    printed = capsys.readouterr().out
    assert "Checking 6 images of camvid/train" in printed
    assert "warning: nothing of class" in printed  # eight of the eleven
    with open(tmp_path / "run" / "log.csv") as file:
        assert [0 <= float(r["val_miou"]) <= 1 for r in csv.DictReader(file)]


@pytest.mark.filterwarnings("ignore:Found .* images of camvid")
def test_both_forms_of_a_setting_go_together(camvid, tmp_path, capsys):
    settings = ["--steps", "2", "--set", "warmup_steps=1", "--dry-run"]
    assert train(camvid, tmp_path, *settings) == 0
    assert "warmup_steps         1" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:Found .* images of camvid")
def test_dry_run_prints_the_plan_and_writes_nothing(camvid, tmp_path, capsys):
    out = tmp_path / "run"
    assert train(camvid, out, "--dry-run", "--set", "steps=8", model="Toy/trained") == 0
    printed = capsys.readouterr().out
    assert "steps                8" in printed
    assert "weights trained on ImageNet-1K" in printed
    assert not out.exists()


def test_a_run_has_a_folder_of_its_own_by_default(capsys):
    command = ["train", str(RECIPE), "--model", "Toy/trained", "--dry-run"]
    assert main(command) == 0
    assert "runs/toy_recipe-Toy-trained/model.keras" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:Found .* images of camvid")
def test_dry_run_of_what_is_to_be_resumed(camvid, tmp_path, capsys):
    assert train(camvid, tmp_path) == 0
    for arguments, words in (
        ([], "already holds a run"),
        (["--resume"], "missing\n  nothing"),
        (["--resume", "--set", "seed=5"], "has other settings: seed (was 0, now 5)"),
    ):
        assert train(camvid, tmp_path, "--dry-run", *arguments) == 0
        assert words in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:Found .* images of camvid")
def test_batch_is_divided_before_the_images_are_read(
    camvid, tmp_path, capsys, monkeypatch
):
    three = Devices()
    three.parts = 3
    monkeypatch.setattr(
        sys.modules[launch.__module__], "distribute", lambda _: nullcontext(three)
    )
    assert train(camvid, tmp_path / "run") == 2
    printed = capsys.readouterr()
    assert "multiple of 3, the number of devices. Received: 4" in printed.err
    assert "Checking" not in printed.out


@pytest.mark.filterwarnings("ignore:Found .* images of camvid")
@pytest.mark.parametrize(
    ("arguments", "model", "words"),
    [
        ([], "Nobody", "has no model 'Nobody'. Choose from Toy, Toy/trained"),
        ([], "Toy/trained", "trained on ImageNet-1K. Type --set backbone_weights=FILE"),
        (["--set", "stepz=3"], "Toy", "no setting 'stepz'. Choose from"),
        (["--set", "steps"], "Toy", "--set expects KEY=VALUE. Received: 'steps'"),
        (["--set", "root="], "Toy", "root: typed twice, as an option and in --set"),
        (["--images", "x"], "Toy", "images: of no effect with dataset='camvid'"),
    ],
)
def test_what_keeps_a_recipe_from_starting_is_one_line(
    arguments, model, words, camvid, tmp_path, capsys
):
    assert train(camvid, tmp_path / "run", *arguments, model=model) == 2
    err = capsys.readouterr().err.strip().splitlines()[-1]
    assert err.startswith("keras-lrseg train: ")
    assert words in err
    assert not (tmp_path / "run").exists()


@pytest.mark.filterwarnings("ignore:Found .* images of camvid")
def test_corrupt_image_is_skipped_only_when_asked(camvid, tmp_path, capsys):
    bad = tmp_path / "camvid"
    for path in camvid.rglob("*.png"):
        copy = bad / path.relative_to(camvid)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    victim = bad / "train" / "images" / "2.png"
    victim.write_bytes(victim.read_bytes()[:200])
    assert train(bad, tmp_path / "run") == 2
    assert str(victim) in capsys.readouterr().err
    assert train(bad, tmp_path / "run", "--skip-corrupt") == 0
    printed = capsys.readouterr().out
    assert f"left out: Cannot read the image {victim}" in printed
    assert "1 images of camvid/train left out, 5 stay" in printed


@pytest.mark.filterwarnings("ignore:Found .* images of camvid")
def test_run_that_a_corrupt_image_ended_goes_on_without_it(camvid, tmp_path, capsys):
    bad, out = tmp_path / "camvid", tmp_path / "run"
    shutil.copytree(camvid, bad)
    assert train(bad, out) == 0
    (out / "checkpoints" / "step_00000004.npz").unlink()
    victim = bad / "train" / "images" / "2.png"
    victim.write_bytes(victim.read_bytes()[:200])
    assert train(bad, out, "--resume", "--skip-corrupt") == 0
    printed = capsys.readouterr().out
    assert "1 images of camvid/train left out, 5 stay" in printed
    assert "Resuming at step 2 of 4" in printed


@pytest.mark.filterwarnings("ignore:Found .* images of camvid")
def test_run_goes_on_where_the_first_weights_are_gone(camvid, tmp_path, capsys):
    weights = tmp_path / "toy.weights.h5"
    weights.write_bytes(b"of an earlier training")
    given = ["--set", f"backbone_weights={weights}"]
    out = tmp_path / "run"
    assert train(camvid, out, *given, model="Toy/trained") == 0
    weights.unlink()
    assert train(camvid, out, "--resume", model="Toy/trained") == 0
    assert "Resuming at step 4 of 4" in capsys.readouterr().out
    assert str(weights) in (out / "run.json").read_text()


@pytest.mark.filterwarnings("ignore:Found .* images of camvid")
def test_data_are_checked_where_there_is_nothing_to_resume(camvid, tmp_path, capsys):
    out = tmp_path / "run"
    assert train(camvid, out, "--resume") == 0
    assert "Checking 6 images" in capsys.readouterr().out
    assert train(camvid, out) == 2  # before any image is read
    printed = capsys.readouterr()
    assert "already holds a run" in printed.err
    assert "Checking" not in printed.out


@pytest.mark.filterwarnings("ignore:Found .* images of camvid")
def test_data_without_a_label_is_refused(camvid, tmp_path, capsys):
    blank = tmp_path / "camvid"
    shutil.copytree(camvid, blank)
    for path in blank.glob("train/masks/*"):
        Image.open(path).point(lambda label: 255).save(path)
    assert train(blank, tmp_path / "run") == 2
    assert "No pixel of camvid/train is labelled" in capsys.readouterr().err


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    """Images in a folder for each class, as ImageNet's are laid out."""
    root = tmp_path_factory.mktemp("colours")
    for split, count in (("train", 4), ("val", 3)):
        for channel, name in enumerate(("red", "green", "blue")):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                image = np.full((50, 60, 3), 20 * i, "uint8")
                image[..., channel] += 180
                Image.fromarray(image).save(root / split / name / f"{i}.png")
    return root


def test_classifier_trains_in_parts_and_goes_on_bit_for_bit(colours, tmp_path, capsys):
    out = tmp_path / "run"
    assert train(colours, out, model="ToyClassifier") == 0
    assert tuple(load_model(out / "model.keras").classes) == ("blue", "green", "red")
    assert not (out / "contact_sheet.png").exists()
    with open(out / "log.csv") as file:
        scores = [float(row["val_top1"]) for row in csv.DictReader(file)]
    assert len(scores) == 2
    assert all(round(9 * score, 3).is_integer() for score in scores)  # of 9 images
    expected = last_state(out)
    (out / "checkpoints" / "step_00000004.npz").unlink()
    assert train(colours, out, "--resume", model="ToyClassifier") == 0
    assert "Resuming at step 2 of 4" in capsys.readouterr().out
    for a, b in zip(expected, last_state(out), strict=True):
        np.testing.assert_array_equal(a, b)


def test_two_devices_end_where_one_does(camvid, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    train_on(1, camvid, one)
    printed = train_on(2, camvid, two, "--distribution", "data")
    assert printed.count("Model: ") == 1
    for a, b in zip(last_state(one), last_state(two), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * np.abs(a).max())
    logs = [(out / "log.csv").read_text().splitlines() for out in (one, two)]
    assert len(logs[0]) == len(logs[1]) == 3
    assert (two / "contact_sheet.png").exists()


@pytest.mark.skipif(BACKEND != "jax", reason="how JAX starts several processes")
def test_two_processes_of_jax_end_where_one_does(camvid, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    train_on(1, camvid, one)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    processes = [
        start(
            *(1, camvid, two, "--distribution", "data"),
            KERAS_DISTRIBUTION_JOB_ADDRESSES=address,
            KERAS_DISTRIBUTION_NUM_PROCESSES="2",
            KERAS_DISTRIBUTION_PROCESS_ID=str(i),
        )
        for i in range(2)
    ]
    printed = "".join(map(finish, processes))
    assert printed.count("Model: ") == 1
    for a, b in zip(last_state(one), last_state(two), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * np.abs(a).max())


@pytest.mark.slow
def test_run_of_one_device_goes_on_with_two(camvid, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train_on(1, camvid, whole)
    train_on(1, camvid, parts)
    (parts / "checkpoints" / "step_00000004.npz").unlink()
    printed = train_on(2, camvid, parts, "--resume", "--distribution", "data")
    assert "Resuming at step 2 of 4" in printed
    for a, b in zip(last_state(whole), last_state(parts), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * np.abs(a).max())


@pytest.mark.slow
def test_run_killed_ten_times_ends_where_an_uninterrupted_one_does(camvid, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    options = ["--set", "steps=400", "--set", "epoch_steps=10"]
    finish(start(1, camvid, whole, *options))
    random = np.random.default_rng(0)
    options.append("--resume")
    for _ in range(10):
        process = start(1, camvid, killed, *options)
        before = checkpoints(killed)
        while checkpoints(killed) == before and process.poll() is None:
            time.sleep(0.01)
        time.sleep(random.uniform(0, 0.3))
        assert process.poll() is None, "it ended before it could be killed"
        process.kill()
        process.communicate()
    assert "Resuming at step" in finish(start(1, camvid, killed, *options))
    for a, b in zip(*(last_state(out, 400) for out in (whole, killed)), strict=True):
        np.testing.assert_array_equal(a, b)


def checkpoints(out):
    return {path.name for path in out.glob("checkpoints/step_*.npz")}
