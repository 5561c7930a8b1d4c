"""Reading weight files, never running code that they hold."""

import pathlib
import re

import numpy as np

TORCH_SUFFIXES = (".pth", ".pt", ".ckpt", ".bin")
SUFFIXES = (".keras", ".weights.h5", *TORCH_SUFFIXES, ".safetensors")

# What mmengine's training checkpoints hold beside tensors: curves of the training.
LEFT_OUT = (
    "mmengine.logging.history_buffer.HistoryBuffer",
    "builtins.getattr",  # how a pickle names the methods that a HistoryBuffer lists
    "numpy.dtype",
    "numpy.ndarray",
    "numpy.core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray._reconstruct",  # since NumPy 2
    "numpy._core.multiarray.scalar",
)


def resolve(path) -> pathlib.Path:
    """Return the local path of a weight file; "hf://owner/repository/file" is fetched.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if the suffix is none of `SUFFIXES`, or the address is incomplete.
    """
    if str(path).startswith("hf://"):
        path = _from_hugging_face(str(path).removeprefix("hf://"))
    path = pathlib.Path(path)
    if not path.name.endswith(SUFFIXES):
        raise ValueError(
            f"A model or its weights are a file that ends in {', '.join(SUFFIXES)}. "
            f"Received: {path}"
        )
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no file {path}. Nothing is downloaded unless the address starts "
            'with "hf://".'
        )
    return path


def _from_hugging_face(address):
    owner, _, rest = address.partition("/")
    repository, _, file = rest.partition("/")
    if not file:
        raise ValueError(
            f'weights expects "hf://owner/repository/file". Received: "hf://{address}"'
        )
    try:
        import huggingface_hub
    except ImportError as error:
        raise ImportError(
            "hf:// addresses need Hugging Face's client. "
            "Type: pip install huggingface_hub"
        ) from error
    return huggingface_hub.hf_hub_download(f"{owner}/{repository}", file)


def read_state_dict(path) -> dict[str, np.ndarray]:
    """Read a PyTorch checkpoint as `{key: array}`.

    `.safetensors`, or a pickle that `torch.load(weights_only=True)` accepts. A
    training checkpoint's "state_dict" (or "model") is unwrapped, and the objects that
    mmengine writes beside it (`LEFT_OUT`) are left out.

    Raises:
        ValueError: if the file is truncated, holds more than tensors and plain values,
            or no tensors.
        ImportError: if torch or safetensors is not installed.
    """
    path = pathlib.Path(path)
    if path.suffix == ".safetensors":
        state = _read_safetensors(path)
    else:
        state = _read_torch(path)
    for key in ("state_dict", "model"):
        if isinstance(state.get(key), dict):
            state = state[key]
    arrays = {
        key: np.asarray(value.detach().float() if hasattr(value, "detach") else value)
        for key, value in state.items()
        if isinstance(key, str) and hasattr(value, "shape")
    }
    if not arrays:
        raise ValueError(
            f"{path} holds no tensors. Expected a state_dict, or a training checkpoint "
            f"with one. Received the keys: {list(state)[:10]}"
        )
    return arrays


def _read_safetensors(path):
    try:
        import safetensors
        from safetensors.numpy import load_file
    except ImportError as error:
        raise _missing_extra("safetensors") from error
    try:
        return load_file(path)
    except safetensors.SafetensorError as error:
        raise ValueError(
            f"{path} is not a readable .safetensors file: {error}"
        ) from None


def _read_torch(path):
    try:
        import torch
    except ImportError as error:
        raise _missing_extra("torch") from error
    import pickle

    try:
        with torch.serialization.safe_globals([(_LeftOut, x) for x in LEFT_OUT]):
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        raise ValueError(
            f"{path} is damaged, or holds objects that could run code"
            f"{f' ({found[1]})' if found else ''}, and is refused. Expected tensors "
            "and plain values only. If you trust it, keep its weights alone: "
            "torch.save({'state_dict': torch.load(FILE, weights_only=False)"
            "['state_dict']}, NEW_FILE)"
        ) from None
    except Exception as error:  # A cut file fails in as many ways as it has places.
        raise ValueError(
            f"{path} is not a readable PyTorch checkpoint; is the download complete? "
            f"({_first_line(error)})"
        ) from None
    if not isinstance(state, dict):
        raise ValueError(
            f"{path} expects a dict of tensors. Received: {type(state).__name__}"
        )
    return state


class _LeftOut:
    """Stands for every name of `LEFT_OUT`: takes what the file says, does nothing."""

    def __init__(self, *_):
        pass

    def __setstate__(self, state):
        pass


def _first_line(error):
    return str(error).strip().splitlines()[0] if str(error).strip() else repr(error)


def _missing_extra(package):
    return ImportError(
        f"Reading this checkpoint needs {package}. "
        "Type: pip install 'keras-lrseg[convert]'"
    )
