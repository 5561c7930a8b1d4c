"""TFLite files of fewer bits: half precision, 8-bit weights, 8-bit arithmetic.

Figures in the comments are those of LRFormer-T / OffSeg-T trained on the demo data, at
256×256: mIoU of 0.645 / 0.742 in float32, processor time of an image on x86 with 2
threads. `tools/quantization_table.py` measures such files.
"""

import contextlib
import copy
import io
import os
import re
from collections.abc import Iterable, Sequence

import numpy as np

from keras_lrseg.export import flatbuffer
from keras_lrseg.export.require import require

PRECISIONS = ("float32", "float16", "weight_int8", "dynamic_int8", "int8")

WEIGHTED = ("FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D_TRANSPOSE")

# Values in a constant that is worth a conversion of its own: weights and biases of
# attention are, gains of norms are not.
LARGE = 4096

# What "int8" leaves in floating point. With every operator in 8 bits the mIoU is
# 0.646 / 0.606. One kind at a time in float32, the norms' mean, squared difference and
# rsqrt among them, makes it 0.645 to 0.646 / 0.594 to 0.608, but softmax 0.743 for
# OffSeg (`results/quantization_sweep.csv`). Of its softmaxes it is the one over 4096
# pixels: an 8-bit one has steps of 1/256, and over more positions the weights round to
# zero. So does a divisor's epsilon, where LiteRT's 8-bit division stops; SegNeXt's
# divisors in 8 bits cost 2.5 % of the labels.
LONGEST_SOFTMAX = 256
KEPT = ("DIV",)


def quantize(
    content: bytes, precision: str, calibration: Iterable[np.ndarray] | None = None
) -> bytes:
    """Return a float32 TFLite file at another precision.

    | precision | weights | arithmetic | for |
    |---|---|---|---|
    | float32 | float32 | float32 | |
    | float16 | float16 | float32 | GPUs; half the size, the same labels |
    | weight_int8 | int8 | float32 | size alone |
    | dynamic_int8 | int8 | int8 in products and convolutions | CPUs, the fastest |
    | int8 | int8 | int8 | accelerators that compute with integers |

    Weights have a scale for each output channel. In "int8" a softmax over many
    positions stays in floating point. Input and output are those of the given file.

    Args:
        content: a TFLite file of one graph, in float32, of fixed sizes, with one input,
            an image (1, H, W, 3) of uint8 or float32, and one output.
        precision: one of `PRECISIONS`.
        calibration: for "int8", images to take the ranges of values from: some dozens
            of uint8 (H, W, 3), as the file will see them.

    Returns:
        The file.

    Raises:
        ValueError: if the precision is unknown, or "int8" gets no images or images of
            another size.
        ImportError: if ai-edge-quantizer is missing.
    """
    images = [] if calibration is None else list(calibration)
    check_precision(precision, images)
    if precision == "float32":
        return content
    require("ai_edge_litert", "ai_edge_quantizer")
    model = flatbuffer.read(content)
    _separate_constants(model)
    if precision == "float16":
        _shrink_constants(model, "float16")
        return _compact(model)
    ranges = None
    if precision == "int8":
        ranges = _ranges(content, images)
    else:
        _shrink_constants(model, "int8", without=(*WEIGHTED, "TRANSPOSE_CONV"))
    quantizer = _quantizer(model, precision)
    with contextlib.redirect_stderr(io.StringIO()):  # progress bars
        result = quantizer.quantize(ranges, enable_progress_report=False)
    return _compact(flatbuffer.read(bytes(result.quantized_model)))


def check_precision(precision: str, calibration: Sequence) -> None:
    """Raise the ValueErrors of `quantize` before any work."""
    if precision not in PRECISIONS:
        raise ValueError(
            f"precision expects one of {PRECISIONS}. Received: {precision!r}"
        )
    if precision == "int8" and not calibration:
        raise ValueError(
            "int8 takes the ranges of values from images: give `calibration` "
            "(--calibration) some dozens of uint8 (H, W, 3), as the file will see "
            "them. Received: none"
        )


# === What is quantised ===


def _quantizer(model, precision):
    """A quantiser of the model that knows what to do with each operator."""
    from ai_edge_quantizer import Quantizer, qtyping

    quantizer, kinds = Quantizer(flatbuffer.pack(model)), qtyping.TFLOperationName
    if precision == "int8":
        _compute_in_int8(quantizer, kinds, _kept(model))
        return quantizer
    # With 8-bit arithmetic depthwise convolutions are slower: 110 → 146 / 50 → 63 ms.
    # LiteRT refuses products with a constant on the left, which is how LRFormer pools.
    dynamic = ("FULLY_CONNECTED", "CONV_2D") if precision == "dynamic_int8" else ()
    for name in WEIGHTED:
        if name in dynamic:
            quantizer.add_dynamic_config(".*", kinds(name), 8)
        else:
            quantizer.add_weight_only_config(".*", kinds(name), 8)
    return quantizer


def _compute_in_int8(quantizer, kinds, kept):
    quantizer.add_static_config(".*", kinds.ALL_SUPPORTED, 8, 8)
    # A constant on the left of a product has one scale in LiteRT, whatever the file
    # says. With one for each row LRFormer pools wrongly: 96.5 % equal labels, not 99.6.
    quantizer.add_static_config(
        ".*", kinds.BATCH_MATMUL, 8, 8, weight_granularity="TENSORWISE"
    )
    for kind in (kinds.INPUT, kinds.OUTPUT):
        quantizer.update_quantization_recipe(".*", kind, algorithm_key="no_quantize")
    if kept:
        scope = f"^({'|'.join(map(re.escape, kept))});"
        quantizer.update_quantization_recipe(
            scope, kinds.ALL_SUPPORTED, algorithm_key="no_quantize"
        )


def _kept(model):
    """Names of the outputs of operators that stay in floating point.

    `KEPT`, what makes the divisor of a `DIV`, softmaxes over many positions, and that
    of the output: its clients expect no steps of 1/256.
    """
    (graph,) = model.subgraphs
    operators, names = flatbuffer.operators(model), []
    divisors = {operator.inputs[1] for operator, kind in operators if kind == "DIV"}
    for operator, kind in operators:
        taken, given = operator.inputs[0], operator.outputs[0]
        is_softmax = kind == "SOFTMAX" and (
            graph.tensors[taken].shape[-1] > LONGEST_SOFTMAX or given in graph.outputs
        )
        if kind in KEPT or given in divisors or is_softmax:
            names.append(graph.tensors[given].name.decode())
    return names


def _ranges(content, images):
    """Least and largest value of each tensor over all images.

    Averages and percentiles over the images, and 2 to 31 of them, do the same to the
    labels: 99.4 to 99.6 % stay equal.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    (graph,) = flatbuffer.read(content).subgraphs
    made = {int(i) for operator in graph.operators for i in operator.outputs}
    made.update(map(int, graph.inputs))
    interpreter = Interpreter(
        model_content=content,
        num_threads=os.cpu_count(),
        # The delegate would hide what is inside of it.
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    (taken,) = interpreter.get_input_details()
    tensors = {i: interpreter.tensor(i) for i in made}
    ranges = {i: (np.inf, -np.inf) for i in made}
    for image in images:
        if image.shape != tuple(taken["shape"][1:]):
            raise ValueError(
                f"The file takes images of {tuple(map(int, taken['shape'][1:]))}. "
                f"Received for calibration: {image.shape}"
            )
        interpreter.set_tensor(taken["index"], image[None].astype(taken["dtype"]))
        interpreter.invoke()
        for i, (low, high) in ranges.items():
            values = tensors[i]()
            ranges[i] = min(low, values.min()), max(high, values.max())
            del values  # a view, which must not outlive this run
    return {
        graph.tensors[i].name.decode(): {
            key: np.full((1,) * len(graph.tensors[i].shape), value, "float32")
            for key, value in zip(("min", "max"), ranges[i], strict=True)
        }
        for i in made
    }


# === Constants ===


def _separate_constants(model):
    """Give operators that share a float constant a tensor each, of the same data.

    They may want it in different types, and the copies that the quantiser makes
    itself have names that it stumbles over.
    """
    (graph,) = model.subgraphs
    seen = set()
    for operator in graph.operators:
        for place, index in enumerate(operator.inputs):
            if index in seen:
                tensor = copy.copy(graph.tensors[index])
                tensor.name = b"%s_%d" % (tensor.name, len(graph.tensors))
                operator.inputs[place] = len(graph.tensors)
                graph.tensors.append(tensor)
            elif flatbuffer.float_values(model, index) is not None:
                seen.add(index)


def _shrink_constants(model, dtype, without=()):
    """Keep large constants in fewer bits; LiteRT widens them once, at the start.

    Args:
        model: whose constants have one reader each.
        dtype: "float16", or "int8" with one scale for all values.
        without: kinds of operators whose constants stay.
    """
    from ai_edge_litert import schema_py_generated as schema

    (graph,) = model.subgraphs
    dequantize = schema.OperatorCodeT()
    dequantize.builtinCode = schema.BuiltinOperator.DEQUANTIZE
    dequantize.deprecatedBuiltinCode = dequantize.builtinCode
    dequantize.version = 3  # the first with float16
    operators = []
    for operator, kind in flatbuffer.operators(model):
        for index in [] if kind in without else operator.inputs:
            values = flatbuffer.float_values(model, index)
            if values is None or values.size < LARGE:
                continue
            widen = schema.OperatorT()
            widen.opcodeIndex = len(model.operatorCodes)
            widen.inputs = [_add_small(model, graph.tensors[index], values, dtype)]
            widen.outputs = [index]
            graph.tensors[index].buffer = 0  # empty: no constant any more
            operators.append(widen)
        operators.append(operator)
    model.operatorCodes.append(dequantize)
    graph.operators = operators
    used = {tensor.buffer for tensor in graph.tensors}
    used |= {entry.buffer for entry in model.metadata or ()}
    for i in set(range(len(model.buffers))) - used:
        model.buffers[i].data = None


def _compact(model):
    """The file, in which tensors that stand for several have one of their names.

    That and `pack` leave out 3 / 6 % of a file in 8 bits.
    """
    for tensor in model.subgraphs[0].tensors:
        tensor.name, *_ = tensor.name.split(b";")
    return flatbuffer.pack(model)


def _add_small(model, tensor, values, dtype):
    """Add a constant of fewer bits and return its index."""
    from ai_edge_litert import schema_py_generated as schema

    small, buffer = copy.copy(tensor), schema.BufferT()
    small.name = tensor.name + b"_" + dtype.encode()
    small.type = getattr(schema.TensorType, dtype.upper())
    if dtype == "int8":
        scale = max(abs(values).max(), np.finfo("float32").tiny) / 127
        values = np.rint(values / scale)
        small.quantization = schema.QuantizationParametersT()
        small.quantization.scale = np.array([scale], "float32")
        small.quantization.zeroPoint = np.array([0], "int64")
    buffer.data = values.astype(dtype).view("uint8")
    small.buffer = len(model.buffers)
    model.buffers.append(buffer)
    (graph,) = model.subgraphs
    graph.tensors.append(small)
    return len(graph.tensors) - 1
