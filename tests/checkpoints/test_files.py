import contextlib
import sys
import zipfile
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from keras_lrseg.checkpoints import published_settings
from keras_lrseg.checkpoints.files import SUFFIXES, read_state_dict, resolve
from tests.helpers import refused


def test_parameters_are_read_as_tensors_are(tmp_path):
    layer = torch.nn.Linear(2, 3)
    torch.save(dict(layer.named_parameters()), tmp_path / "model.pth")
    state = read_state_dict(tmp_path / "model.pth")
    np.testing.assert_array_equal(state["weight"], layer.weight.detach())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_suffix_is_taken(tmp_path, suffix):
    path = tmp_path / f"model{suffix}"
    path.touch()
    assert resolve(path) == resolve(str(path)) == path


@pytest.mark.parametrize("name", ["model.h5", "model.npz", "model", "model.pth.txt"])
def test_unknown_suffix_is_refused_with_the_known_ones(tmp_path, name):
    (tmp_path / name).touch()
    with refused(tmp_path / name, *SUFFIXES):
        resolve(tmp_path / name)


def test_missing_file_is_named(tmp_path):
    path = tmp_path / "missing.pth"
    with refused(path, "hf://", error=FileNotFoundError):
        resolve(path)


def test_folder_is_no_file(tmp_path):
    path = tmp_path / "model.pth"
    path.mkdir()
    with refused(path, error=FileNotFoundError):
        resolve(path)
    with refused(tmp_path, *SUFFIXES):
        resolve(tmp_path)


@pytest.mark.parametrize("file", ["model.pth", "folder/model.pth"])
def test_hugging_face_address_is_fetched(monkeypatch, tmp_path, file):
    calls, local = [], tmp_path / "model.pth"
    local.touch()

    def hf_hub_download(*arguments):
        calls.append(arguments)
        return str(local)

    hub = SimpleNamespace(hf_hub_download=hf_hub_download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    assert resolve(f"hf://owner/repository/{file}") == local
    assert calls == [("owner/repository", file)]


@pytest.mark.parametrize("address", ["hf://", "hf://owner", "hf://owner/repository"])
def test_incomplete_address_is_refused_with_its_form(address):
    with refused("hf://owner/repository/file", f'"{address}"'):
        resolve(address)


def test_absent_client_says_what_to_type(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with refused("pip install huggingface_hub", error=ImportError):
        resolve("hf://owner/repository/model.pth")


@pytest.mark.parametrize(
    ("package", "name"), [("torch", "model.pth"), ("safetensors", "model.safetensors")]
)
def test_absent_reader_says_what_to_type(monkeypatch, package, name):
    monkeypatch.setitem(sys.modules, package, None)
    with refused(package, "pip install 'keras-lrseg[convert]'", error=ImportError):
        read_state_dict(name)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({}, ["no tensors"]),
        ({"state_dict": {}, "meta": {}}, ["no tensors"]),
        ({"epoch": 3, "note": "x"}, ["no tensors", "epoch", "note"]),
        ([1, 2], ["dict of tensors", "list"]),
        ({0: np.ones(2)}, ["no tensors"]),
    ],
    ids=["empty", "empty state_dict", "no tensors", "list", "numbered tensors"],
)
def test_checkpoint_without_named_tensors_is_refused(tmp_path, content, words):
    torch = pytest.importorskip("torch")
    if isinstance(content, dict):
        content = {
            key: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
            for key, value in content.items()
        }
    path = tmp_path / "model.pth"
    torch.save(content, path)
    with refused(path, *words):
        read_state_dict(path)


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_checkpoint_cut_anywhere_is_refused_in_one_line(tmp_path, new):
    torch = pytest.importorskip("torch")
    path = tmp_path / "model.pth"
    state = {f"layer{i}.weight": torch.ones(5, 3) for i in range(20)}
    torch.save({"state_dict": state}, path, _use_new_zipfile_serialization=new)
    content = path.read_bytes()
    for share in range(1, 100, 3):
        path.write_bytes(content[: len(content) * share // 100])
        with refused(path):
            read_state_dict(path)


class HistoryBuffer:
    """What mmengine's class of this name pickles."""

    def __init__(self, values):
        self._log_history = np.array(values)
        self._statistics_methods = {"mean": HistoryBuffer.mean}

    def mean(self):
        return self._log_history.mean()


class Stranger:
    pass


@contextlib.contextmanager
def mmengine(monkeypatch, *classes):
    """Let classes seem to be defined where mmengine defines its own."""
    name = "mmengine.logging.history_buffer"
    with monkeypatch.context() as patch:
        for i in (1, 2, 3):
            package = ".".join(name.split(".")[:i])
            patch.setitem(sys.modules, package, ModuleType(package))
        for item in classes:
            patch.setattr(item, "__module__", name)
            patch.setattr(sys.modules[name], item.__name__, item, raising=False)
        yield


def save_run(path, curve, **more):
    """Write what mmengine's runner writes."""
    torch = pytest.importorskip("torch")
    content = {
        "meta": {"epoch": 3, "dataset_meta": {"classes": ("a", "b")}, **more},
        "state_dict": {"backbone.norm.bias": torch.arange(3.0)},
        "message_hub": {"log_scalars": {"train/loss": curve}, "runtime_info": {}},
    }
    torch.save(content, path)


@pytest.mark.parametrize("numpy1", [False, True], ids=["numpy 2", "numpy 1"])
def test_curves_beside_the_weights_of_a_training_are_left_out(
    numpy1, tmp_path, monkeypatch
):
    path = tmp_path / "iter_80000.pth"
    with mmengine(monkeypatch, HistoryBuffer):
        save_run(path, HistoryBuffer([0.5, 0.25]), miou=np.float64(0.5))
    content = path.read_bytes()
    for word in (b"HistoryBuffer", b"getattr", b"numpy._core.multiarray"):
        assert word in content
    if numpy1:
        rename(path, b"numpy._core.", b"numpy.core.")
    state = read_state_dict(path)
    assert state.keys() == {"backbone.norm.bias"}
    np.testing.assert_array_equal(state["backbone.norm.bias"], [0, 1, 2])


def rename(path, old, new):
    """Replace a name in the pickle of a checkpoint."""
    with zipfile.ZipFile(path) as file:
        content = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w") as file:
        for name, data in content.items():
            is_pickle = name.endswith("data.pkl")
            file.writestr(name, data.replace(old, new) if is_pickle else data)


def test_other_classes_of_the_same_module_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "model.pth"
    with mmengine(monkeypatch, Stranger):
        save_run(path, Stranger())
    with refused(path, "mmengine.logging.history_buffer.Stranger"):
        read_state_dict(path)


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call

    def __call__(self):
        """Pickle asks for a callable, though it calls none."""


def test_what_getattr_would_find_cannot_be_called(tmp_path):
    """The name is let through, as a class lists its methods by it, the function not."""
    path, found = tmp_path / "model.pth", Call(getattr, "name", "upper")
    save_run(path, found)
    assert read_state_dict(path).keys() == {"backbone.norm.bias"}
    save_run(path, Call(found))
    with refused(path, "could run code"):
        read_state_dict(path)


@pytest.mark.parametrize(
    ("extra", "classifier"),
    [({}, "pixel"), ({"offset_learning.mask_norm.bias": 19}, "offset")],
)
def test_classifier_and_number_of_classes_are_read_from_the_file(
    tmp_path, extra, classifier
):
    torch = pytest.importorskip("torch")
    path = tmp_path / "model.pth"
    sizes = {"conv_seg.bias": 19, **extra}
    state = {f"decode_head.{key}": torch.zeros(n) for key, n in sizes.items()}
    torch.save({"state_dict": state}, path)
    settings = {"num_classes": 19, "classifier": classifier}
    assert published_settings(path) == settings


def test_file_without_classification_layer_has_no_number_of_classes(tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "model.pth"
    torch.save({"state_dict": {"backbone.norm.bias": torch.zeros(19)}}, path)
    with refused(path, "no classification layer"):
        published_settings(path)
