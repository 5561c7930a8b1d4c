"""A packed file holds what its model holds, and equal vectors once."""

import numpy as np
import pytest

from keras_lrseg.export import flatbuffer
from tests.export.graphs import packed, tensor
from tests.helpers import refused

CHANNELS = 10_000


@pytest.fixture
def model():
    """Two int8 tensors with a scale and a zero point for each channel."""
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    buffers = [schema.BufferT(), schema.BufferT()]
    for buffer, size in zip(buffers, (5, CHANNELS), strict=True):
        buffer.data = np.arange(size).astype("uint8")
    tensors = [tensor("int8", 1, CHANNELS, buffer=1 + i) for i in range(2)]
    for i, each in enumerate(tensors):
        each.quantization = schema.QuantizationParametersT()
        each.quantization.scale = np.full(CHANNELS, 1 + i, "float32")
        each.quantization.zeroPoint = np.zeros(CHANNELS, "int64")
    model = flatbuffer.read(packed(tensors, buffers=buffers))
    for each in model.subgraphs[0].tensors:
        each.name = b"same"
    return model


def test_equal_vectors_are_written_once_and_others_are_not_lost(model):
    content = flatbuffer.pack(model)
    vectors = 8 * CHANNELS + 2 * 4 * CHANNELS  # zero points, and scales that differ
    assert vectors < len(content) - CHANNELS < vectors + 1000
    for i, each in enumerate(flatbuffer.read(content).subgraphs[0].tensors):
        assert each.name == b"same"
        np.testing.assert_array_equal(each.quantization.scale, np.full(CHANNELS, 1 + i))
        np.testing.assert_array_equal(each.quantization.zeroPoint, np.zeros(CHANNELS))


def test_data_begins_at_multiples_of_16_bytes(model):
    content = flatbuffer.pack(model)
    for size in (5, CHANNELS):
        data = np.arange(size).astype("uint8").tobytes()
        length = np.uint32(size).tobytes()
        assert (content.index(length + data) + 4) % 16 == 0


def test_operator_without_inputs_is_read():
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    content = packed(
        [tensor("int8", 1)],
        operators=[(schema.OperatorCodeT(), schema.OperatorT())],
        outputs=(0,),
    )
    (operator,) = flatbuffer.read(content).subgraphs[0].operators
    assert operator.inputs is None


def test_other_files_are_refused():
    with refused("bytes of a TFLite file"):
        flatbuffer.read(b"not a TFLite file")
