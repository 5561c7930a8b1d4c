"""A TFLite file as objects that can be read and changed."""


def read(content: bytes):
    """Return the model of a file's content, with the data of all its buffers."""
    from ai_edge_litert.tools import flatbuffer_utils

    return flatbuffer_utils.read_model_from_bytearray(content)


def pack(model) -> bytes:
    """Return the content of the file that a model makes."""
    from ai_edge_litert.tools import flatbuffer_utils

    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


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
