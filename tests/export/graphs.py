"""TFLite files of single functions, and of no operator at all."""

import pytest

SIZE = (4, 6)


def tflite_of(function, shape, dtype="float32"):
    """Convert a TensorFlow function of one tensor, whatever its operators."""
    import tensorflow as tf

    traced = tf.function(function, input_signature=[tf.TensorSpec(shape, dtype)])
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [traced.get_concrete_function()]
    )
    converter.target_spec.supported_ops = [
        tf.lite.OpsSet.TFLITE_BUILTINS,
        tf.lite.OpsSet.SELECT_TF_OPS,
    ]
    return converter.convert()


# --- By hand: a test needs no converter -----------------------------------------------


def tensor(dtype, *shape, buffer=0):
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    result = schema.TensorT()
    result.type = getattr(schema.TensorType, dtype.upper())
    result.shape, result.buffer = list(shape), buffer
    result.name = f"{dtype}{shape}"
    return result


def packed(tensors, inputs=(0,), outputs=(1,), operators=(), buffers=()):
    """A TFLite file of tensors, of which some are inputs and outputs."""
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    graph = schema.SubGraphT()
    graph.tensors, graph.operators = list(tensors), [row[1] for row in operators]
    graph.inputs, graph.outputs = list(inputs), list(outputs)
    model = schema.ModelT()
    model.version, model.subgraphs = 3, [graph]
    model.operatorCodes = [row[0] for row in operators]
    model.buffers = [schema.BufferT(), *buffers]
    return repacked(model)


def repacked(model):
    flatbuffers = pytest.importorskip("flatbuffers")
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def map_file(output="float32", shape=(1, *SIZE, 3), image="uint8"):
    return packed([tensor(image, 1, 8, 12, 3), tensor(output, *shape)])
