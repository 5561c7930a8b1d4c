import keras
import numpy as np
import pytest

from keras_lrseg.training import (
    Checkpoint,
    SegmentationCrossEntropy,
    checkpoint,
    make_optimizer,
    restore_latest,
    save_state,
)
from tests.training.toys import toy_dataset, toy_segmenter


def compiled(seed, **settings):
    """A model with dropout, of other weights and random numbers for each seed."""
    keras.utils.set_random_seed(seed)
    model = toy_segmenter(**settings)
    model.compile(make_optimizer(model, 1e-2, 10, 0), SegmentationCrossEntropy())
    model.optimizer.build(model.trainable_variables)
    return model


def state_of(model):
    variables = [*model.variables, *model.optimizer.variables]
    return [np.array(keras.ops.convert_to_numpy(v)) for v in variables]


def assert_same_state(model, other):
    for a, b in zip(state_of(model), state_of(other), strict=True):
        np.testing.assert_array_equal(a, b)


def train(model, steps):
    images, masks = map(np.stack, zip(*toy_dataset(2), strict=True))
    model.reset_metrics()  # older Keras goes on with the mean of all calls
    return [float(model.train_on_batch(images, masks)) for _ in range(steps)]


def files_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def saved(tmp_path):
    """A model, and a folder with its states at steps 2 and 4."""
    model = compiled(0)
    for step in (2, 4):
        for weight in model.trainable_variables:
            weight.assign(weight + 0.01)
        save_state(model, tmp_path / f"step_{step:08d}.npz", step)
    return model


def test_restored_model_goes_on_as_the_saved_one_bit_for_bit(tmp_path):
    model, other = compiled(0), compiled(1)
    train(model, 2)
    save_state(model, tmp_path / "step_00000002.npz", 2)
    assert restore_latest(other, tmp_path) == 2
    assert_same_state(model, other)
    # Weights, moments, iterations, dropout: one wrong, and the next steps differ.
    assert train(model, 2) == train(other, 2)
    assert_same_state(model, other)


def test_dropout_of_keras_goes_on_too(tmp_path):
    """On PyTorch it draws from that library's own generator."""
    models = []
    for seed in (0, 1):
        keras.utils.set_random_seed(seed)
        layers = [keras.Input((8,)), keras.layers.Dropout(0.5), keras.layers.Dense(3)]
        models.append(keras.Sequential(layers))
        optimizer = make_optimizer(models[-1], 1e-2, 10, 0)
        models[-1].compile(optimizer, "mse")
    model, other = models
    x, y = np.ones((4, 8), "float32"), np.ones((4, 3), "float32")
    model.train_on_batch(x, y)
    save_state(model, tmp_path / "step_00000001.npz", 1)
    model.train_on_batch(x, y)
    other.train_on_batch(x, y)
    restore_latest(other, tmp_path)
    other.train_on_batch(x, y)
    assert_same_state(model, other)


def test_run_that_scales_its_loss_is_saved_and_restored_too(tmp_path):
    """Keras wraps float16's optimizer, and the wrapper must be built only once."""
    model, other = compiled(0), compiled(1)
    for each in (model, other):
        scaled = keras.optimizers.LossScaleOptimizer(make_optimizer(each, 1e-2, 10, 0))
        each.compile(scaled, SegmentationCrossEntropy())
    for step in (1, 2):
        train(model, 1)
        save_state(model, tmp_path / f"step_{step:08d}.npz", step)
    assert restore_latest(other, tmp_path) == 2
    assert_same_state(model, other)
    assert train(model, 2) == train(other, 2)


def test_dropout_and_optimizer_are_part_of_the_state(tmp_path, saved):
    with np.load(tmp_path / "step_00000004.npz") as file:
        names = str(file["names"])
        assert int(file["step"]) == 4
        variables = [name for name in file.files if name.isdigit()]
        assert len(variables) == len(state_of(saved))
    for part in ("seed_generator_state", "moving_variance", "iteration", "momentum"):
        assert part in names


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
    path.write_bytes(b"")


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)


def overwrite_with_text(path):
    path.write_text("no checkpoint")


def overwrite_with_other_arrays(path):
    np.savez(path, weights=np.zeros(3))


DAMAGES = (
    *(truncate, empty, flip_a_bit),
    *(overwrite_with_text, overwrite_with_other_arrays),
)


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_newest_file_is_named_and_the_one_before_used(
    damage, tmp_path, saved, capsys
):
    newest = tmp_path / "step_00000004.npz"
    damage(newest)
    other = compiled(1)
    assert restore_latest(other, tmp_path) == 2
    assert f"{newest} is damaged" in capsys.readouterr().out
    newest.unlink()
    fresh = compiled(2)
    restore_latest(fresh, tmp_path)
    assert_same_state(other, fresh)


def test_all_files_damaged_is_an_error_that_leaves_the_model_alone(tmp_path, saved):
    for path in tmp_path.iterdir():
        truncate(path)
    before = state_of(saved)
    with pytest.raises(ValueError, match=f"No checkpoint in {tmp_path} can be read"):
        restore_latest(saved, tmp_path)
    for a, b in zip(before, state_of(saved), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("settings", [{"num_classes": 4}, {"dropout_rate": 0.0}])
def test_checkpoint_of_another_model_is_refused(settings, tmp_path, saved):
    other = compiled(1, **settings)
    before = state_of(other)
    with pytest.raises(
        ValueError, match=r"step_00000004\.npz belongs to another model"
    ):
        restore_latest(other, tmp_path)
    for a, b in zip(before, state_of(other), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("folder", [".", "missing"])
def test_without_a_checkpoint_the_run_starts_at_step_0(folder, tmp_path):
    model = compiled(0)
    before = state_of(model)
    assert restore_latest(model, tmp_path / folder) == 0
    for a, b in zip(before, state_of(model), strict=True):
        np.testing.assert_array_equal(a, b)


def test_failed_write_leaves_the_checkpoints_as_they_were(tmp_path, saved, monkeypatch):
    def full_disk(file, **arrays):
        file.write(b"half of it")
        raise OSError("No space left on device")

    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(checkpoint.np, "savez", full_disk)
    for name in ("step_00000004.npz", "step_00000006.npz"):
        with pytest.raises(OSError, match="No space left"):
            save_state(saved, tmp_path / name, 4)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def callback(folder):
    checkpoint = Checkpoint(folder, epoch_steps=2, steps=7)
    checkpoint.set_model(compiled(0))
    return checkpoint


def test_callback_keeps_the_last_two_epochs_and_nothing_else(tmp_path):
    checkpoint = callback(tmp_path / "new")
    kept = []
    for epoch in range(4):
        checkpoint.on_epoch_end(epoch, {"loss": 1.0})
        kept.append([int(name[5:13]) for name in files_in(tmp_path / "new")])
    assert kept == [[2], [2, 4], [4, 6], [6, 7]]  # the last epoch has one step


@pytest.mark.parametrize("loss", [np.nan, np.inf])
def test_callback_saves_no_state_whose_loss_is_not_finite(loss, tmp_path):
    checkpoint = callback(tmp_path)
    checkpoint.on_epoch_end(0, {"loss": 1.0})
    checkpoint.on_epoch_end(1, {"loss": loss})
    assert files_in(tmp_path) == ["step_00000002.npz"]


def test_callback_saves_no_state_whose_weights_are_not_finite(tmp_path):
    """The loss of an epoch does not see what its last step did to the weights."""
    checkpoint = callback(tmp_path)
    checkpoint.on_epoch_end(0, {"loss": 1.0})
    weight = checkpoint.model.trainable_variables[0]
    weight.assign(np.nan * keras.ops.convert_to_numpy(weight))
    checkpoint.on_epoch_end(1, {"loss": 1.0})
    assert files_in(tmp_path) == ["step_00000002.npz"]
