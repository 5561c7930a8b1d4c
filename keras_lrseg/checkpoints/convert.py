"""Copy the tensors of a PyTorch state_dict into Keras variables, all of them."""

import re
from collections.abc import Callable

import numpy as np

State = dict[str, np.ndarray]

# Keras's last part of a variable's path, and PyTorch's.
LEAVES = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}

# Tables of positions: of a size of their own for each image size learnt from.
TABLES = ("attention_bias",)


class Names:
    """The names that a published checkpoint gives to the weights of one part.

    Args:
        rules: (pattern, replacement) pairs of regular expressions, applied in order to
            the path of a Keras variable, whose last part is PyTorch's already.
        unused: patterns of keys that the published network holds and does not use.
        prepare: function from a part's state_dict to one with the keys that `rules`
            make, for checkpoints that name or stack the same weights otherwise.
    """

    def __init__(
        self,
        *rules: tuple[str, str],
        unused: tuple[str, ...] = (),
        prepare: Callable[[State], State] = dict,
    ):
        self.rules = rules
        self.unused = tuple(map(re.compile, unused))
        self.prepare = prepare

    def key(self, path: str) -> str:
        """Return the state_dict key of a Keras variable's path.

        Args:
            path: for example "stage1/block0/attention/query/kernel".
        """
        *parts, leaf = path.split("/")
        key = "/".join([*parts, LEAVES.get(leaf, leaf)])
        for pattern, replacement in self.rules:
            key = re.sub(pattern, replacement, key)
        return key.replace("/", ".")

    def used(self, state: State) -> State:
        """Return what the network uses of a part's state_dict, under our names."""
        state = self.prepare(state)
        return {
            key: value
            for key, value in state.items()
            if not any(pattern.search(key) for pattern in self.unused)
        }


def to_keras_layout(key: str, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Transpose a PyTorch tensor to Keras's layout; `shape` is that of the variable."""
    # Tables, scales and biases are the same but for axes of length one.
    if key.rpartition(".")[2] != "weight":
        same = [n for n in array.shape if n > 1] == [n for n in shape if n > 1]
        return array.reshape(shape) if same else array
    if array.ndim == 4 and len(shape) == 4:
        if array.shape[1] == 1 and shape[3] == 1:  # depthwise: (C, 1, k, k)
            return array.transpose(2, 3, 0, 1)
        return array.transpose(2, 3, 1, 0)
    if array.ndim == 4 and array.shape[2:] == (1, 1):  # 1×1 convolution to linear map
        array = array[:, :, 0, 0]
    return array.T


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
            arrays[key] = to_keras_layout(key, state[key], tuple(variable.shape))
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


def other_tables(variables: dict, values: dict) -> list[str]:
    """Return the keys of tables that both sides have for different image sizes."""
    return [
        key
        for key, variable in variables.items()
        if variable.name in TABLES
        and key in values
        and tuple(values[key].shape) != tuple(variable.shape)
    ]


def _listed(names, most=8):
    if not names:
        return "none"
    more = f", … ({len(names)} in all)" if len(names) > most else ""
    return ", ".join(names[:most]) + more
