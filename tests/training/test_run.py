"""Training runs: what they leave behind, and what they refuse."""

import dataclasses
import json
import shutil

import keras
import numpy as np
import pytest

from keras_lrseg.checkpoints import load_model
from keras_lrseg.data import SegmentationDataset
from keras_lrseg.evaluation import evaluate
from keras_lrseg.training import SegmentationRecipe, run, save_model
from tests.training.toy_runs import (
    FIGURES,
    SETTINGS,
    files_in,
    log_of,
    state_of,
    train,
)
from tests.training.toys import CLASSES, toy_dataset, toy_segmenter

# Keras's warning: no epoch may end because the stream does, not the shorter last one.
pytestmark = pytest.mark.filterwarnings("error:.*ran out of data")


def test_run_leaves_settings_log_two_checkpoints_and_the_model(finished):
    steps = [f"checkpoints/step_{step:08d}.npz" for step in (4, 5)]
    others = ["README.md", "log.csv", "model.keras", "run.json"]
    assert files_in(finished) == sorted([*steps, *others])
    settings = json.loads((finished / "run.json").read_text())
    expected = {
        "model": "semantic_segmenter",
        "classifier": "Conv2D",
        "class_names": list(CLASSES),
        "image_count": 4,
        **SETTINGS,
        "crop": [64, 48],
        "warmup_steps": None,
        "weight_decay": 0.01,
        "seed": 0,
    }
    assert {key: settings[key] for key in expected} == expected
    fields = {field.name for field in dataclasses.fields(SegmentationRecipe)}
    assert settings.keys() == fields | {"class_names", "image_count"}
    assert list((finished / "tensorboard").glob("events.out.tfevents.*"))


def test_every_epoch_is_in_the_log_the_shorter_last_one_too(finished):
    rows = log_of(finished)
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    assert list(rows[0]) == ["epoch", *FIGURES, "val_miou"]
    assert all(0 < float(row["loss"]) < 5 for row in rows)
    assert int(state_of(finished, 5)["step"]) == 5


def test_saved_model_has_the_classes_and_colours_of_the_data(finished):
    model, dataset = load_model(finished / "model.keras"), toy_dataset()
    assert tuple(model.classes) == dataset.classes
    np.testing.assert_array_equal(model.palette, dataset.palette)


def test_validation_of_other_classes_is_refused_before_the_first_step(tmp_path):
    images, masks = zip(*toy_dataset(2), strict=True)
    other = SegmentationDataset.from_arrays(images, masks, ["a", "b", "c"])
    with pytest.raises(ValueError, match="other classes: red, green, blue and a, b, c"):
        train(tmp_path / "run", validation=other)
    assert not (tmp_path / "run").exists()


def test_last_validation_score_is_that_of_the_saved_model(finished):
    scores = evaluate(load_model(finished / "model.keras"), toy_dataset(2, seed=1))
    assert float(log_of(finished)[-1]["val_miou"]) == pytest.approx(scores.miou)


def test_resuming_a_finished_run_changes_nothing(finished, tmp_path):
    before = load_model(finished / "model.keras").get_weights()
    log = (finished / "log.csv").read_text()
    path = train(finished, model_seed=1, resume=True)
    for a, b in zip(before, load_model(path).get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (finished / "log.csv").read_text() == log


def test_existing_run_is_not_overwritten(finished):
    before = {p: p.read_bytes() for p in finished.rglob("*") if p.is_file()}
    with pytest.raises(ValueError, match=r"already holds a run\. Type --resume"):
        train(finished)
    assert {p: p.read_bytes() for p in finished.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("crop", (48, 64)),
        ("batch_size", 1),
        ("steps", 6),
        ("epoch_steps", 3),
        ("learning_rate", 1e-3),
        ("warmup_steps", 1),
        ("weight_decay", 0.0),
        ("global_clipnorm", 1.0),
        ("seed", 1),
        ("image_count", toy_dataset(3)),
    ],
)
def test_resuming_with_another_setting_names_it(name, value, finished):
    settings = {"dataset" if name == "image_count" else name: value}
    with pytest.raises(ValueError, match=rf"has other settings: {name} \(was") as error:
        train(finished, resume=True, **settings)
    assert str(error.value).count("(was ") == 1


def test_resuming_with_fewer_images_is_a_wish_of_its_own(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    recipe, model = SegmentationRecipe(**SETTINGS), toy_segmenter()
    path = run.train(
        model,
        toy_dataset(3),
        tmp_path / "run",
        recipe,
        resume=True,
        may_differ=("image_count",),
    )
    assert path.exists()


def test_checkpoints_without_the_file_of_their_run_are_not_overwritten(
    finished, tmp_path
):
    shutil.copytree(finished / "checkpoints", tmp_path / "checkpoints")
    with pytest.raises(ValueError, match="already holds a run"):
        train(tmp_path)


def test_damaged_file_of_a_run_is_named(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "run" / "run.json").write_text("{")
    with pytest.raises(ValueError, match=r"run\.json is damaged"):
        train(tmp_path / "run", resume=True)


def test_resuming_with_other_class_names_is_refused(finished):
    images, masks = zip(*toy_dataset(), strict=True)
    other = SegmentationDataset.from_arrays(images, masks, ["a", "b", "c"])
    with pytest.raises(ValueError, match=r"other settings: class_names \(was \['red'"):
        train(finished, dataset=other, resume=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"warmup_steps": 5}, "0 <= warmup_steps < steps"),
        ({"batch_size": 0}, "batch_size expects 1 or more"),
        ({"crop": (0, 64)}, "at least 32 pixels"),
    ],
)
def test_refused_settings_leave_no_run_that_blocks_the_next_try(
    settings, message, tmp_path
):
    with pytest.raises(ValueError, match=message):
        train(tmp_path / "run", **settings)
    assert not (tmp_path / "run" / "run.json").exists()


def test_other_number_of_classes_is_refused_before_anything_is_written(tmp_path):
    images, masks = zip(*toy_dataset(), strict=True)
    four = SegmentationDataset.from_arrays(images, masks, ["a", "b", "c", "d"])
    with pytest.raises(ValueError, match="3 classes and the data 4"):
        train(tmp_path / "run", dataset=four)
    assert not (tmp_path / "run").exists()


def test_the_seed_decides_the_data(tmp_path):
    train(tmp_path / "a", steps=10, epoch_steps=10, seed=7)
    train(tmp_path / "b", steps=10, epoch_steps=10, seed=8)
    a, b = (state_of(tmp_path / name, 10) for name in "ab")
    assert any(not np.array_equal(a[name], b[name]) for name in a)


@pytest.mark.skipif(keras.config.backend() != "torch", reason="others round elsewhere")
def test_a_traced_run_ends_with_the_same_state(finished, tmp_path):
    train(tmp_path, validation=toy_dataset(2, seed=1), jit_compile="yes")
    expected, state = state_of(finished, 5), state_of(tmp_path, 5)
    for name in expected:
        np.testing.assert_array_equal(state[name], expected[name])


def test_toy_task_is_learnt(tmp_path):
    path = train(tmp_path, steps=60, epoch_steps=20, learning_rate=3e-2)
    rows = log_of(tmp_path)
    assert list(rows[0]) == ["epoch", *FIGURES]  # nothing was validated
    rates = [float(row["learning_rate"]) for row in rows]
    assert rates == pytest.approx([3e-2 * left for left in (40 / 54, 20 / 54, 0)])
    assert all(float(row["images_per_s"]) > 0 for row in rows)
    assert float(rows[-1]["loss"]) < 0.5  # log(3) by chance
    assert evaluate(load_model(path), toy_dataset(3, seed=5)).miou > 0.7


@pytest.mark.parametrize("name", ["model.h5", "model", "model.weights.h5"])
def test_a_model_is_saved_as_keras_only(name, tmp_path):
    with pytest.raises(ValueError, match=r"saved as \.keras"):
        save_model(toy_segmenter(), tmp_path / name)
    assert files_in(tmp_path) == []
