"""The whole state of a training run in one file, written whole or not at all.

Keras's own backup leaves out the state of random generators, so a resumed run with
dropout would end elsewhere. Here every variable of model and optimizer is kept, and
PyTorch's own generators, from which Keras's `Dropout` draws there.
"""

import json
import os
import pathlib
import zipfile
import zlib

import keras
import numpy as np

from keras_lrseg.data import atomic_path

# What reading a damaged file raises, and one that holds something else.
DAMAGE = (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error)
KEEP = 2  # one more than needed: a damaged file falls back to the one before


class Checkpoint(keras.callbacks.Callback):
    """Save the state at the end of every epoch, and keep the last two.

    Args:
        folder: where the files go, `step_00001000.npz` and so on.
        epoch_steps: steps of an epoch, for the file's name.
        steps: of the whole run; its last epoch may be shorter.
    """

    def __init__(self, folder, epoch_steps: int, steps: int):
        super().__init__()
        self.folder = pathlib.Path(folder)
        self.epoch_steps = epoch_steps
        self.steps = steps

    def on_epoch_end(self, epoch, logs=None):
        if not (np.isfinite((logs or {}).get("loss", 0.0)) and is_finite(self.model)):
            return  # a state without use must not push out the last good one
        step = min((epoch + 1) * self.epoch_steps, self.steps)
        save_state(self.model, self.folder / f"step_{step:08d}.npz", step)
        for old in checkpoints_in(self.folder)[:-KEEP]:
            old.unlink()


class SameGenerators(keras.callbacks.Callback):
    """Begin an epoch with PyTorch's generators as they were at the end of the last one.

    Scores and new data loaders, which are not the same in a resumed run, draw from them
    too.
    """

    def __init__(self):
        super().__init__()
        self.states = generator_states()

    def on_train_batch_begin(self, batch, logs=None):
        if batch == 0:
            set_generator_states(self.states)

    def on_epoch_end(self, epoch, logs=None):
        self.states = generator_states()


def generator_states() -> dict[str, np.ndarray]:
    """Return the states of PyTorch's generators; nothing on another backend."""
    if keras.config.backend() != "torch":
        return {}
    import torch

    states = {"torch_cpu": torch.get_rng_state().numpy()}
    if torch.cuda.is_available():
        states["torch_cuda"] = torch.cuda.get_rng_state().numpy()
    return states


def set_generator_states(states) -> None:
    """Set PyTorch's generators to the states that there are, and a generator for."""
    if keras.config.backend() != "torch":
        return
    import torch

    if "torch_cpu" in states:
        torch.set_rng_state(torch.from_numpy(states["torch_cpu"]))
    if "torch_cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(torch.from_numpy(states["torch_cuda"]))


def is_finite(model) -> bool:
    """Whether all weights of a model are finite."""
    weights = map(keras.ops.convert_to_numpy, model.weights)
    return all(np.isfinite(weight).all() for weight in weights)


def save_state(model, path: pathlib.Path, step: int) -> None:
    """Write all variables of a compiled model and its optimizer."""
    arrays = {
        f"{i:05d}": keras.ops.convert_to_numpy(variable)
        for i, variable in enumerate(all_variables(model))
    }
    names = json.dumps([v.path for v in all_variables(model)])
    arrays.update(step=step, names=names)
    arrays.update(generator_states())
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays)
        file.flush()
        os.fsync(file.fileno())


def checkpoints_in(folder: str | pathlib.Path) -> list[pathlib.Path]:
    """Return the checkpoints of a folder, the oldest first."""
    return sorted(pathlib.Path(folder).glob("step_*.npz"))


def restore_latest(model, folder) -> int:
    """Restore the newest whole checkpoint of a folder into a compiled model.

    A damaged file is named and the one before it is used.

    Returns:
        The step to go on from; 0 if there is no checkpoint.

    Raises:
        ValueError: if checkpoints exist and none can be read, or they belong to
            another model.
    """
    paths = checkpoints_in(folder)[::-1]
    for path in paths:
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            step, names = int(arrays["step"]), json.loads(str(arrays["names"]))
        except DAMAGE as error:
            print(f"{path} is damaged ({error}); trying the one before.", flush=True)
            continue
        _assign(model, arrays, names, path)
        return step
    if paths:
        raise ValueError(
            f"No checkpoint in {folder} can be read. Start again in another folder."
        )
    return 0


def _assign(model, arrays, names, path):
    variables = all_variables(model)
    same = len(names) == len(variables) and all(
        arrays[f"{i:05d}"].shape == tuple(v.shape) for i, v in enumerate(variables)
    )
    if not same:
        raise ValueError(
            f"{path} belongs to another model or optimizer: {len(names)} variables, "
            f"expected {len(variables)} of the same shapes."
        )
    for i, variable in enumerate(variables):
        variable.assign(arrays[f"{i:05d}"])
    set_generator_states(arrays)


def all_variables(model) -> list:
    """Return the variables of a compiled model and its optimizer."""
    if not model.optimizer.built:  # a loss scaling optimizer is built once only
        model.optimizer.build(model.trainable_variables)
    return [*model.variables, *model.optimizer.variables]
