"""A TFLite file as objects that can be read and changed."""

import copy

import numpy as np


def read(content: bytes):
    """Return the model of a file's content, with the data of all its buffers.

    Operators have their inputs in lists, to be changed.

    Raises:
        ValueError: if it is no TFLite file.
    """
    from ai_edge_litert import schema_py_generated as schema

    if content[4:8] != b"TFL3":
        raise ValueError("content expects the bytes of a TFLite file.")
    model = schema.ModelT.InitFromPackedBuf(content)
    for buffer in model.buffers:
        if buffer.offset:  # behind the flatbuffer, where packing would lose it
            buffer.data = np.frombuffer(content, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    for graph in model.subgraphs:
        for operator in graph.operators:
            if operator.inputs is not None:  # some operators take nothing
                operator.inputs = list(operator.inputs)
    return model


def pack(model) -> bytes:
    """Return the content of the file that a model makes.

    Equal vectors of numbers are written once: a quantised file has a zero point for
    each channel of each weight, 64 bits that are all 0.
    """
    import flatbuffers

    class Builder(flatbuffers.Builder):
        def CreateNumpyVector(self, values):
            if values.dtype == np.uint8:  # the data of a buffer, which is aligned
                return super().CreateNumpyVector(values)
            key = values.dtype, values.tobytes()
            if key not in places:
                places[key] = super().CreateNumpyVector(values)
            return places[key]

    places, builder = {}, Builder()
    model = copy.copy(model)
    model.buffers = [_AlignedBuffer(buffer) for buffer in model.buffers]
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


class _AlignedBuffer:
    """A buffer that starts at a multiple of 16, which the generated code leaves out."""

    def __init__(self, buffer):
        self.buffer = buffer

    def Pack(self, builder):
        data = self.buffer.data
        builder.Prep(16, 0 if data is None else len(data))
        return self.buffer.Pack(builder)


def kinds(model) -> list[str]:
    """Return the name of each of the model's operator codes, "CUSTOM" included."""
    from ai_edge_litert.tools import flatbuffer_utils as utils

    names = {code: name for name, code in vars(utils.BuiltinOperator).items()}
    codes = map(utils.get_builtin_code_from_operator_code, model.operatorCodes)
    return [names[code] for code in codes]


def operators(model) -> list[tuple]:
    """Return pairs of an operator and the name of its kind, of the only graph."""
    (graph,) = model.subgraphs
    names = kinds(model)
    return [(operator, names[operator.opcodeIndex]) for operator in graph.operators]


def float_values(model, index):
    """Return the values of the only graph's float constant `index`, in one row.

    None of any other tensor, and of -1: an operator's input that is left out.
    """
    from ai_edge_litert import schema_py_generated as schema

    tensor = model.subgraphs[0].tensors[index]
    data = model.buffers[tensor.buffer].data
    if index < 0 or data is None or tensor.type != schema.TensorType.FLOAT32:
        return None
    return data.view("float32")
