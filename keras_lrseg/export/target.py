"""Where an exported file goes: whether it can, and what was there before."""

import contextlib
import os
import pathlib
import shutil
import tempfile

from keras_lrseg.data import atomic_path

SAVED_MODEL = {"saved_model.pb", "fingerprint.pb", "variables", "assets"}
SUFFIXES = {"tflite": ".tflite", "onnx": ".onnx"}


@contextlib.contextmanager
def replacing(path: pathlib.Path):
    """`atomic_path`, but a SavedModel too takes the place of an earlier one.

    Errors name `path`, not the hidden names beside it.
    """
    hidden = f".{os.getpid()}-"  # as `atomic_path` has it
    old = path.with_name(f"{hidden}old-{path.name}")
    try:
        with atomic_path(path) as temporary:
            yield temporary
            if temporary.is_dir() and path.exists():
                path.rename(old)  # no folder takes the place of one that is not empty
    except (OSError, ValueError) as error:
        if hidden not in str(error):
            raise
        kind = OSError if isinstance(error, OSError) else ValueError
        raise kind(str(error).replace(hidden, "")) from error
    finally:
        if old.exists():
            if path.exists():
                shutil.rmtree(old)
            else:  # the new one did not get there
                old.rename(path)


def check_target(path: str | pathlib.Path, to: str) -> pathlib.Path:
    """Return where a file "tflite", "onnx" or a "saved_model" goes, if it can.

    Raises:
        ValueError: if the suffix is another format's.
        OSError: if something is in the way, or the folder lets nobody write.
    """
    path = pathlib.Path(path)
    suffix = SUFFIXES.get(to)
    if suffix and path.suffix != suffix:
        raise ValueError(f"The file's name must end in {suffix}. Received: {path}")
    if suffix is None and path.suffix in SUFFIXES.values():
        raise ValueError(
            f"A SavedModel is a folder, whose name must not end in {path.suffix}. "
            f"Received: {path}; export_{path.suffix[1:]} (--to {path.suffix[1:]}) "
            "writes such a file"
        )
    if suffix and path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; expected a file to write.")
    if suffix is None and path.exists() and not _is_saved_model(path):
        raise FileExistsError(
            f"{path} exists and is not a SavedModel alone; name a new folder"
        )
    folder = next(x for x in path.absolute().parents if x.exists())
    if not folder.is_dir():
        raise NotADirectoryError(
            f"{folder} is a file; expected a folder to write {path.name} in."
        )
    try:
        with tempfile.TemporaryFile(dir=folder):  # root may write where nothing can be
            return path
    except OSError as error:
        raise type(error)(
            f"Nothing can be written in {folder}: {error.strerror}. Choose another "
            f"place for {path.name}."
        ) from None


def _is_saved_model(folder):
    """Whether it is a folder that holds a SavedModel and nothing else."""
    if folder.is_symlink() or not (folder / "saved_model.pb").exists():
        return False
    return {path.name for path in folder.iterdir()} <= SAVED_MODEL
