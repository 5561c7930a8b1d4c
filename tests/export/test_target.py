"""Where exported files go, and what is never lost there."""

import pathlib
import tempfile

import pytest

from keras_lrseg.export import export as module
from keras_lrseg.export import export_onnx, export_saved_model
from tests.export.cases import (
    WRITERS,
)
from tests.helpers import refused
from tests.training.toys import toy_segmenter


@pytest.mark.parametrize("name", WRITERS)
def test_target_under_a_file_is_refused(name, tmp_path):
    (tmp_path / "file").write_text("in the way")
    path = tmp_path / "file" / "new" / name
    words = tmp_path / "file", "is a file", "expected a folder", name
    with refused(*words, error=NotADirectoryError):
        WRITERS[name](None, path, (64, 96))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("name", WRITERS)
def test_target_in_a_folder_without_permission_is_refused(name, tmp_path, monkeypatch):
    def denied(dir):  # as root nothing is
        raise PermissionError(13, "Permission denied", str(dir))

    monkeypatch.setattr(tempfile, "TemporaryFile", denied)
    words = tmp_path, "Nothing can be written", "Permission denied", name
    with refused(*words, error=PermissionError):
        WRITERS[name](None, tmp_path / "new" / name, (64, 96))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["model.tflite", "model.onnx"])
def test_saved_model_has_no_suffix_of_a_file(name, tmp_path):
    with refused("SavedModel", name, f"--to {name[6:]}"):
        export_saved_model(None, tmp_path / name, (64, 96))


def test_error_names_the_file_and_not_the_hidden_one(tmp_path, monkeypatch):
    def full(model, path, *_):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(module, "convert", full)
    path = tmp_path / "model.onnx"
    with pytest.raises(OSError, match=f"No space left on device: '{path}'"):
        export_onnx(toy_segmenter(), path, (64, 96))


def test_folder_of_the_user_is_never_replaced(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("dear")
    with pytest.raises(FileExistsError, match=r"mine.*not a SavedModel.*new folder"):
        export_saved_model(toy_segmenter(), tmp_path / "mine", (64, 96))
    (tmp_path / "mine" / "saved_model.pb").touch()
    with pytest.raises(FileExistsError, match=r"mine.*not a SavedModel.*new folder"):
        export_saved_model(toy_segmenter(), tmp_path / "mine", (64, 96))
    assert (tmp_path / "mine" / "notes.txt").read_text() == "dear"


@pytest.fixture
def quick(monkeypatch):
    """SavedModels are text files in a folder, which nobody runs."""

    def write(model, path, *_):
        path.mkdir()
        (path / "saved_model.pb").write_text("new")

    monkeypatch.setattr(module, "convert", write)
    monkeypatch.setattr(module, "check", lambda model, path, *_: module.Report(path, 0))


@pytest.fixture
def old(tmp_path):
    """What is in the file of a SavedModel that was there before."""
    (tmp_path / "model" / "variables").mkdir(parents=True)
    (tmp_path / "model" / "saved_model.pb").write_text("old")
    return tmp_path / "model" / "saved_model.pb"


def test_saved_model_takes_the_place_of_an_earlier_one(quick, old, tmp_path):
    export_saved_model(toy_segmenter(), tmp_path / "model", (64, 96))
    assert old.read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert [path.name for path in old.parent.iterdir()] == ["saved_model.pb"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_earlier_saved_model_survives_a_failing_rename(
    error, quick, old, tmp_path, monkeypatch
):
    def fail(*_):
        assert not old.exists()  # it is out of the way
        raise error

    monkeypatch.setattr(pathlib.Path, "replace", fail)
    with pytest.raises(error):
        export_saved_model(toy_segmenter(), tmp_path / "model", (64, 96))
    assert old.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
