"""Training runs: what they leave behind, and that an interruption changes nothing."""

import csv
import dataclasses
import json
import shutil
import signal

import keras
import numpy as np
import pytest

from keras_lrseg import analysis
from keras_lrseg.checkpoints import load_model
from keras_lrseg.data import SegmentationDataset
from keras_lrseg.evaluation import evaluate
from keras_lrseg.training import (
    Checkpoint,
    SegmentationRecipe,
    callbacks,
    run,
    save_model,
)
from tests.training.toys import (
    CLASSES,
    toy_dataset,
    toy_mask_segmenter,
    toy_segmenter,
)

# Keras's warning: no epoch may end because the stream does, not the shorter last one.
pytestmark = pytest.mark.filterwarnings("error:.*ran out of data")

# The last of the three epochs has one step.
SETTINGS = {
    "crop": (64, 48),
    "batch_size": 2,
    "steps": 5,
    "epoch_steps": 2,
    "learning_rate": 1e-2,
}

FIGURES = ("loss", "images_per_s", "learning_rate")  # of an epoch, in the log


def train(
    out,
    model_seed=0,
    dataset=None,
    validation=None,
    resume=False,
    make=toy_segmenter,
    **settings,
):
    """Train a toy model from weights and dropout that `model_seed` decides."""
    keras.utils.set_random_seed(model_seed)
    recipe = SegmentationRecipe(**{**SETTINGS, **settings})
    return run.train(
        make(),
        dataset or toy_dataset(),
        out,
        recipe,
        validation=validation,
        resume=resume,
    )


def log_of(out):
    with open(out / "log.csv") as file:
        return list(csv.DictReader(file))


def state_of(out, step):
    with np.load(out / "checkpoints" / f"step_{step:08d}.npz") as file:
        return {name: file[name] for name in file.files if name != "names"}


def files_in(out):
    """All files but TensorBoard's, whose names are the time."""
    files = [p.relative_to(out) for p in out.rglob("*") if p.is_file()]
    return sorted(str(p) for p in files if p.parts[0] != "tensorboard")


def after_epoch(monkeypatch, epoch, action):
    """Call `action(model)` when the checkpoint of an epoch has been written."""

    class Patched(Checkpoint):
        def on_epoch_end(self, this_epoch, logs=None):
            super().on_epoch_end(this_epoch, logs)
            if this_epoch == epoch:
                action(self.model)

    monkeypatch.setattr(run, "Checkpoint", Patched)


def interrupt(model):
    raise KeyboardInterrupt


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "finished"
    path = train(out, validation=toy_dataset(2, seed=1))
    assert path == out / "model.keras"
    return out


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


def test_epoch_whose_validation_fails_is_not_lost(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("no such image")

    monkeypatch.setattr(callbacks, "evaluate", fail)
    with pytest.raises(OSError, match="no such image"):
        train(tmp_path, validation=toy_dataset(2))
    assert files_in(tmp_path) == ["checkpoints/step_00000002.npz", "run.json"]


def test_run_that_ended_in_its_last_validation_is_scored_when_resumed(
    tmp_path, monkeypatch
):
    validation = toy_dataset(3, seed=1)

    def end(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(callbacks, "evaluate", end)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, validation=validation, steps=3)
    monkeypatch.undo()
    path = train(tmp_path, validation=validation, steps=3, resume=True)
    scores = evaluate(load_model(path), validation)
    rows = log_of(tmp_path)
    assert [int(row["epoch"]) for row in rows] == [0, 1]
    assert float(rows[-1]["val_miou"]) == pytest.approx(scores.miou)
    analysis.training_curve(tmp_path / "log.csv", tmp_path / "curve.png")


def test_last_validation_score_is_that_of_the_saved_model(finished):
    scores = evaluate(load_model(finished / "model.keras"), toy_dataset(2, seed=1))
    assert float(log_of(finished)[-1]["val_miou"]) == pytest.approx(scores.miou)


@pytest.mark.parametrize(("damaged", "resumed_at"), [(False, 4), (True, 2)])
def test_resumed_run_ends_where_an_uninterrupted_one_does_bit_for_bit(
    damaged, resumed_at, finished, tmp_path, monkeypatch, capsys
):
    after_epoch(monkeypatch, 1, interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path)
    assert not (tmp_path / "model.keras").exists()
    monkeypatch.undo()
    if damaged:
        newest = tmp_path / "checkpoints" / "step_00000004.npz"
        newest.write_bytes(newest.read_bytes()[:-100])
    train(tmp_path, model_seed=1, resume=True)
    assert f"Resuming at step {resumed_at} of 5" in capsys.readouterr().out
    for step in (4, 5):
        expected, state = state_of(finished, step), state_of(tmp_path, step)
        assert state.keys() == expected.keys()
        for name in expected:
            np.testing.assert_array_equal(state[name], expected[name])
    saved = load_model(tmp_path / "model.keras").get_weights()
    for a, b in zip(saved, load_model(finished / "model.keras").weights, strict=True):
        np.testing.assert_array_equal(a, keras.ops.convert_to_numpy(b))
    assert files_in(tmp_path) == files_in(finished)
    rows = log_of(tmp_path)
    assert [int(row["epoch"]) for row in rows] == [0, 1, 2]
    # Without damage the second epoch is not run again: its loss is not known.
    assert [bool(row["loss"]) for row in rows] == [True, damaged, True]


@pytest.mark.slow
def test_model_of_masks_is_trained_and_resumed(tmp_path, monkeypatch):
    settings = {"make": toy_mask_segmenter, "validation": toy_dataset(2, seed=1)}
    after_epoch(monkeypatch, 1, interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, **settings)
    monkeypatch.undo()
    path = train(tmp_path, resume=True, **settings)
    first, *_, last = log_of(tmp_path)
    assert 0 < float(last["loss"]) < 2 * float(first["loss"])
    scores = evaluate(load_model(path), settings["validation"])
    assert float(last["val_miou"]) == pytest.approx(scores.miou, abs=1e-6)


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


@pytest.fixture
def ctrl_c():
    """Ctrl-C as in a terminal: programs started in the background ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_ends_the_run_after_the_next_batch(tmp_path, monkeypatch, capfd):
    after_epoch(monkeypatch, 0, lambda _: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path)
    assert "Ctrl-C again" in capfd.readouterr().err
    assert len(log_of(tmp_path)) == 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_ends_the_last_validation_too(tmp_path):
    class Interrupting(SegmentationDataset):
        reads = 0

        def __getitem__(self, index):
            Interrupting.reads += 1
            signal.raise_signal(signal.SIGINT)
            return super().__getitem__(index)

    validation = Interrupting.from_arrays(*zip(*toy_dataset(3), strict=True), CLASSES)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, validation=validation, steps=2)
    assert Interrupting.reads == 1
    assert files_in(tmp_path) == ["checkpoints/step_00000002.npz", "run.json"]


@pytest.mark.usefixtures("ctrl_c")
def test_second_ctrl_c_ends_the_run_at_once(tmp_path, monkeypatch):
    reached = []

    def twice(model):
        signal.raise_signal(signal.SIGINT)
        reached.append("first")
        signal.raise_signal(signal.SIGINT)
        reached.append("second")

    after_epoch(monkeypatch, 0, twice)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path)
    assert reached == ["first"]


def set_to_nan(model):
    weight = model.trainable_variables[-1]  # of the classifier: no ReLU hides it
    weight.assign(np.nan * keras.ops.convert_to_numpy(weight))


def test_loss_that_is_not_finite_ends_the_run_and_keeps_the_last_good_state(
    finished, tmp_path, monkeypatch
):
    after_epoch(monkeypatch, 0, set_to_nan)
    with pytest.raises(FloatingPointError, match="longer finite at step 3") as error:
        train(tmp_path)
    last = tmp_path / "checkpoints" / "step_00000002.npz"
    assert f"The last good checkpoint is {last}. Begin again" in str(error.value)
    kept = ["checkpoints/step_00000002.npz", "log.csv", "run.json"]
    assert files_in(tmp_path) == kept
    monkeypatch.undo()
    train(tmp_path, resume=True)
    expected, state = state_of(finished, 5), state_of(tmp_path, 5)
    for name in expected:
        np.testing.assert_array_equal(state[name], expected[name])


def test_weights_broken_by_the_very_last_step_make_no_model(tmp_path, monkeypatch):
    after_epoch(monkeypatch, 2, set_to_nan)
    with pytest.raises(FloatingPointError):
        train(tmp_path)
    assert not (tmp_path / "model.keras").exists()


def test_the_seed_decides_the_data(tmp_path):
    train(tmp_path / "a", steps=10, epoch_steps=10, seed=7)
    train(tmp_path / "b", steps=10, epoch_steps=10, seed=8)
    a, b = (state_of(tmp_path / name, 10) for name in "ab")
    assert any(not np.array_equal(a[name], b[name]) for name in a)


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
