"""Training runs that end early: nothing is lost, and resuming changes nothing."""

import signal

import keras
import numpy as np
import pytest

from keras_lrseg import analysis
from keras_lrseg.checkpoints import load_model
from keras_lrseg.data import SegmentationDataset
from keras_lrseg.evaluation import evaluate
from keras_lrseg.training import callbacks
from tests.training.toy_runs import after_epoch, files_in, log_of, state_of, train
from tests.training.toys import (
    CLASSES,
    toy_dataset,
    toy_mask_segmenter,
    toy_segmenter,
)

# Keras's warning: no epoch may end because the stream does, not the shorter last one.
pytestmark = pytest.mark.filterwarnings("error:.*ran out of data")


def interrupt(model):
    raise KeyboardInterrupt


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


def test_dropout_of_keras_goes_on_as_in_an_uninterrupted_run(tmp_path, monkeypatch):
    """On PyTorch it draws from a generator that scores and data loaders share."""

    def make():
        layers = keras.layers.Dropout(0.5), keras.layers.Conv2D(3, 1)
        return toy_segmenter(classifier=keras.Sequential(layers, name="classifier"))

    settings = {"make": make, "validation": toy_dataset(2, seed=1)}
    train(tmp_path / "whole", **settings)
    after_epoch(monkeypatch, 1, interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "parts", **settings)
    monkeypatch.undo()
    train(tmp_path / "parts", model_seed=1, resume=True, **settings)
    expected, state = (state_of(tmp_path / part, 5) for part in ("whole", "parts"))
    for name in expected:
        np.testing.assert_array_equal(state[name], expected[name])


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
