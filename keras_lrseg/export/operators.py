"""The operators of a TFLite file: what a phone must have to run it."""

import collections
import dataclasses
import pathlib
from collections.abc import Mapping

from keras_lrseg.export import flatbuffer

MAX_RANK = 4  # delegates take tensors of no more axes


@dataclasses.dataclass(frozen=True)
class Operators:
    """What a TFLite file is made of.

    Args:
        counts: how often each operator occurs, by name, the most frequent first.
        foreign: names of those that are not built in: custom and TensorFlow's ("Flex").
        deep, unsized: shapes of the tensors of more than four axes, and of those of
            unknown size, by name.
        delegated, parts: how many operators XNNPACK takes, in how many parts.
    """

    counts: Mapping[str, int]
    foreign: tuple[str, ...]
    deep: Mapping[str, tuple[int, ...]]
    unsized: Mapping[str, tuple[int, ...]]
    delegated: int
    parts: int

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {name}" for name, count in self.counts.items())
        return (
            f"{sum(self.counts.values())} operators, {self.delegated} of them taken by "
            f"XNNPACK in {self.parts} part{'s' * (self.parts != 1)}: {counts}"
        )


def read_operators(path: pathlib.Path, allow_any: bool = False) -> Operators:
    """Read the operators of a TFLite file.

    Args:
        path: of the file.
        allow_any: accept what not every phone runs.

    Raises:
        ValueError: naming the operators that are not built in and the tensors of more
            than four axes or of unknown size.
    """
    model = flatbuffer.read(path.read_bytes())
    names, foreign = flatbuffer.kinds(model), []
    for i, code in enumerate(model.operatorCodes):
        if names[i] == "CUSTOM":
            names[i] = code.customCode.decode()
            foreign.append(names[i])
    used = (
        names[op.opcodeIndex] for graph in model.subgraphs for op in graph.operators
    )
    shapes = {
        tensor.name.decode(): tuple(
            int(n)
            for n in next(
                x for x in (tensor.shapeSignature, tensor.shape, ()) if x is not None
            )
        )
        for graph in model.subgraphs
        for tensor in graph.tensors
    }
    deep = {name: shape for name, shape in shapes.items() if len(shape) > MAX_RANK}
    unsized = {name: shape for name, shape in shapes.items() if -1 in shape}
    if not allow_any:
        _refuse(foreign, deep, unsized)
    counts = dict(collections.Counter(used).most_common())
    # LiteRT cannot open a file of other operators than its own.
    delegated = (0, 0) if foreign else _delegated(path)
    return Operators(counts, tuple(foreign), deep, unsized, *delegated)


def _refuse(foreign, deep, unsized):
    found = []
    if foreign:
        found.append(f"operators that are not built in: {', '.join(foreign)}")
    for kind, shapes in (
        (f"tensors of more than {MAX_RANK} axes", deep),
        ("tensors of unknown size", unsized),
    ):
        if shapes:
            named = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
            found.append(f"{kind}: {named}")
    if found:
        raise ValueError(
            f"Not every phone runs the exported file: {'; '.join(found)}. It was not "
            "kept; allow_any_operator=True (--allow-any-operator) keeps it."
        )


def _delegated(path):
    """Count the operators that XNNPACK takes, and the parts it takes them in.

    LiteRT lists the parts after the operators that they stand for: those are between
    the tensors that a part takes and the ones that it gives.
    """
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    nodes = interpreter._get_ops_details()
    parts = [node for node in nodes if node["op_name"] == "DELEGATE"]
    nodes = [node for node in nodes if node["op_name"] != "DELEGATE"]
    maker = {tensor: node for node in nodes for tensor in node["outputs"]}
    taken = set()
    for part in parts:
        given, wanted = set(part["inputs"]), list(part["outputs"])
        while wanted:
            tensor = wanted.pop()
            if tensor in maker and tensor not in given:
                node = maker[tensor]
                given.update(node["outputs"])
                taken.add(node["index"])
                wanted.extend(node["inputs"])
    return len(taken), len(parts)
