"""Copy the tensors of a PyTorch state_dict into Keras variables, all of them."""

import re
from collections.abc import Iterable

import numpy as np

# Keras's last part of a variable's path, and PyTorch's.
LEAVES = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def torch_key(path: str, rules: Iterable[tuple[str, str]]) -> str:
    """Return the state_dict key of a Keras variable's path.

    Args:
        path: for example "stage1/block0/attention/query/kernel".
        rules: (pattern, replacement) pairs of regular expressions. Each one is applied
            in order to the path, whose last part is PyTorch's already.
    """
    prefix, _, leaf = path.rpartition("/")
    key = f"{prefix}/{LEAVES.get(leaf, leaf)}"
    for pattern, replacement in rules:
        key = re.sub(pattern, replacement, key)
    return key.replace("/", ".")


def to_keras_layout(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Transpose a PyTorch kernel to Keras's layout; `shape` is that of the variable."""
    if array.ndim == 4 and len(shape) == 4:
        if array.shape[1] == 1 and shape[3] == 1:  # depthwise: (C, 1, k, k)
            return array.transpose(2, 3, 0, 1)
        return array.transpose(2, 3, 1, 0)
    if array.ndim == 4 and array.shape[2:] == (1, 1):  # 1×1 convolution to linear map
        array = array[:, :, 0, 0]
    if array.ndim == 2:
        return array.T
    return array


def assign_state_dict(variables: dict, state: dict[str, np.ndarray], source) -> None:
    """Assign `state[key]` to `variables[key]`, for all keys or not at all.

    Args:
        variables: Keras variables by state_dict key.
        state: arrays by key, in PyTorch's layout.
        source: the file's name, for the error.

    Raises:
        ValueError: if a key is left over on either side, or a shape differs.
    """
    state = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    missing = [key for key in variables if key not in state]
    unused = [key for key in state if key not in variables]
    arrays, different = {}, []
    for key, variable in variables.items():
        if key in state:
            arrays[key] = to_keras_layout(state[key], tuple(variable.shape))
            if arrays[key].shape != tuple(variable.shape):
                different.append(
                    f"{key} (file {arrays[key].shape}, model {tuple(variable.shape)})"
                )
    if missing or unused or different:
        raise ValueError(
            f"{source} does not fit this model; is it another variant? "
            f"Missing in the file: {_listed(missing)}. "
            f"Not used by the model: {_listed(unused)}. "
            f"Of another shape: {_listed(different)}."
        )
    for key, variable in variables.items():
        variable.assign(arrays[key])


def _listed(names, most=8):
    if not names:
        return "none"
    more = f", … ({len(names)} in all)" if len(names) > most else ""
    return ", ".join(names[:most]) + more
