"""Weights from Keras's own files: `.keras` and `.weights.h5`."""

import pathlib
import tempfile
import zipfile

import h5py
import keras

from keras_lrseg.checkpoints.convert import other_tables
from keras_lrseg.checkpoints.files import resolve


def load_model(path):
    """Load a `.keras` file without its training state.

    Raises:
        ValueError: if the file is damaged or not a Keras model.
    """
    path = resolve(path)
    if not zipfile.is_zipfile(path):  # Keras would say that there is no such file
        raise ValueError(
            f"{path} is not a readable .keras model: no whole zip file. Is the "
            "download or copy complete?"
        )
    try:
        return keras.saving.load_model(path, compile=False)
    except Exception as error:  # Keras lets zip, JSON, HDF5 and type errors through.
        first = (str(error).strip().splitlines() or [repr(error)])[0]
        raise ValueError(f"{path} is not a readable .keras model: {first}") from error


def copy_keras(source, target, path, head=frozenset(), tables=True):
    """Copy variables pairwise by path; the paths leave out the models' own names.

    With `tables=False` tables for another image size stay as they are.
    """
    values = _by_path(source)
    wanted = {k: v for k, v in _by_path(target).items() if id(v) not in head}
    for key in () if tables else other_tables(wanted, values):
        del wanted[key], values[key]
    unfit = {
        name: f"(file {values[name].shape if name in values else 'none'}, "
        f"model {v.shape})"
        for name, v in wanted.items()
        if name not in values or values[name].shape != v.shape
    }
    left_out = {id(v) for v in source.classifier.variables} if head else set()
    unfit |= {
        name: "(model none)"
        for name, v in values.items()
        if name not in wanted and id(v) not in left_out
    }
    if unfit:
        first = ", ".join(f"{name} {why}" for name, why in [*unfit.items()][:3])
        layer = getattr(target, "classifier", None)  # a backbone has none
        classifier = {id(v) for v in layer.variables} if layer else set()
        other_classes = all(id(wanted.get(name)) in classifier for name in unfit)
        remedy = (
            " For another number of classes type reset_head=True (--reset-head)."
            if other_classes
            else ""
        )
        raise ValueError(
            f"{path} does not fit this model: {len(unfit)} weights differ, first "
            f"{first}.{remedy}"
        )
    for name, variable in wanted.items():
        variable.assign(keras.ops.convert_to_numpy(values[name]))


def _by_path(model) -> dict:
    """A model's weights by path, with "decoder", … for the names of its parts.

    Keras numbers the names of layers that have been given none.
    """
    names = {part.name: name for name, part in getattr(model, "parts", {}).items()}
    weights = {}
    for variable in model.weights:
        first, _, rest = variable.path.partition("/")
        weights[f"{names.get(first, first)}/{rest}"] = variable
    return weights


def load_h5(model, path, reset_head=False):
    """Load Keras's weight file; Keras itself leaves out what it has no place for."""
    if reset_head:
        raise ValueError(
            f"reset_head=True needs a .keras or PyTorch checkpoint. Received: {path}"
        )
    with tempfile.TemporaryDirectory() as folder:
        own = pathlib.Path(folder) / "own.weights.h5"
        model.save_weights(own)
        expected, found = _h5_shapes(own), _h5_shapes(path)
    unfit = sorted(set(expected.items()) ^ set(found.items()))
    if unfit:
        raise ValueError(
            f"{path} does not fit this model: {len(unfit)} weights differ, first "
            f"{unfit[0][0]} (file {found.get(unfit[0][0])}, "
            f"model {expected.get(unfit[0][0])})."
        )
    model.load_weights(path)


def _h5_shapes(path) -> dict[str, tuple]:
    """The shapes of a weight file's arrays by their path, less the optimizer's."""
    shapes = {}

    def note(name, item):
        if isinstance(item, h5py.Dataset) and not name.startswith("optimizer/"):
            shapes[name] = item.shape

    try:
        with h5py.File(path) as file:
            file.visititems(note)
    except OSError as error:
        raise ValueError(
            f"{path} is not a readable .weights.h5 file: {error}"
        ) from None
    return shapes
