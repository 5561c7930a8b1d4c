"""Metadata in a TFLite file: what goes in, what comes out, how the classes are called.

The format is TFLite Metadata, schema 1.5.0 (`mediapipe/tasks/metadata/*.fbs` in
MediaPipe's repository): a flatbuffer of its own in one of the model's buffers, and the
text files that it names in a ZIP archive behind the model. MediaPipe Tasks read class
names, normalisation and activation there; Netron and Android Studio show them.
"""

import io
import zipfile
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from keras_lrseg.export import flatbuffer

MEANINGS = {
    "logits": "Scores of the classes, before the softmax.",
    "confidence": "Probabilities of the classes, which add up to one.",
    "labels": "Classes, counted from 0.",
}

# Types and numbers of axes, of a map and of a classifier's output.
SCORES = {("float32", 4), ("float32", 2)}
LABELS = {("uint8", 3), ("int32", 1)}


def add_metadata(
    content: bytes,
    *,
    name: str,
    description: str,
    output: str,
    labels: Sequence[str] | None = None,
    palette: Sequence[Sequence[int]] | None = None,
    version: str | None = None,
    license: str | None = None,
) -> bytes:
    """Describe an image model inside its TFLite file.

    MediaPipe's `ImageSegmenter` then knows the class names, takes the softmax of logits
    by itself and refuses labels, which it would misread. Operators and weights stay as
    they were; earlier metadata is replaced.

    Args:
        content: a TFLite file of one graph, from an image (1, H, W, 3), RGB 0..255 in
            uint8 or float32, to a map, (1, h, w, K) float32 or labels (1, h, w) uint8;
            or of a classifier, to (1, K) float32 or a label (1,) int32.
        name: of the model.
        description: what it is and what its user must know, such as a patent notice.
        output: "logits", "confidence" (after the softmax) or "labels".
        labels: names of the K classes, kept as `labels.txt`; or None.
        palette: their colours, (K, 3) RGB 0..255, kept as `palette.txt`, `#rrggbb` a
            line; or None.
        version: of the model.
        license: of the model.

    Returns:
        The file with its metadata.

    Raises:
        ValueError: if the file is no such model, or labels or palette do not fit it.
        ImportError: if LiteRT (`ai_edge_litert`) is missing.
    """
    model = flatbuffer.read(content)
    shape = _output_shape(model, output)
    files = text_files(labels, palette, None if output == "labels" else shape[-1])
    metadata = _ModelMetadata(
        name=name,
        description=description,
        version=version,
        subgraph_metadata=[
            _SubGraphMetadata(
                input_tensor_metadata=[_image()],
                output_tensor_metadata=[_result(output, shape, files)],
                custom_metadata=[_segmenter(output)] if len(shape) > 2 else None,
            )
        ],
        license=license,
    )
    _set_metadata(model, _pack(metadata, b"M001"))
    model.description = description  # for tools that know no metadata
    return _append(flatbuffer.pack(model), files)


def _image():
    identity = _Normalization(mean=np.float32([0]), std=np.float32([1]))
    return _TensorMetadata(
        name="image",
        description="RGB, 0 to 255; the preprocessing is part of the model.",
        content=_Content(IMAGE, _ImageProperties(RGB)),
        # Nothing to do, but MediaPipe refuses a float image without it.
        process_units=[_ProcessUnit(NORMALIZATION, identity)],
        stats=_Stats(max=np.float32([255]), min=np.float32([0])),
    )


def _result(output, shape, files):
    kinds = {"labels.txt": LABELS_OF_VALUES if output == "labels" else LABELS_OF_AXIS}
    content = None
    if len(shape) > 2:  # one map or one for each class, along the axes 1 and 2
        span = _Range(np.int32(1), np.int32(2))
        content = _Content(IMAGE, _ImageProperties(GRAYSCALE), span)
    return _TensorMetadata(
        name=output,
        description=MEANINGS[output],
        content=content,
        associated_files=[_AssociatedFile(x, type=kinds.get(x)) for x in files],
    )


def _segmenter(output):
    """What only MediaPipe's `ImageSegmenter` reads."""
    options = _pack(_ImageSegmenterOptions(ACTIVATIONS[output]), b"V001")
    return _CustomMetadata("SEGMENTER_METADATA", options)


def text_files(
    labels: Sequence[str] | None,
    palette: Sequence[Sequence[int]] | None,
    count: int | None,
) -> dict[str, list[str]]:
    """Return {name: lines} of what is given, each with one line for each class.

    Raises:
        ValueError: as `add_metadata`; of another number than `count`, if it is known.
    """
    files = {}
    if labels is not None:
        files["labels.txt"] = [str(label) for label in labels]
    if palette is not None:
        files["palette.txt"] = [_colour(rgb) for rgb in palette]
    for file, lines in files.items():
        if count not in (None, len(lines)):
            raise ValueError(
                f"{file.removesuffix('.txt')} expects an entry for each of the {count} "
                f"classes. Received: {len(lines)}, {lines}"
            )
        if any(line.splitlines() != [line] for line in lines):
            raise ValueError(f"A class name is one line of text. Received: {lines}")
    return files


def _colour(rgb):
    rgb = tuple(map(int, rgb))
    if len(rgb) != 3 or not all(0 <= x <= 255 for x in rgb):
        raise ValueError(
            f"palette expects three numbers in 0..255 for each class. Received: {rgb}"
        )
    return f"#{bytes(rgb).hex()}"


def _append(content, files):
    """The model with a ZIP archive of text files behind it."""
    stream = io.BytesIO(content)
    if files:
        with zipfile.ZipFile(stream, "a") as archive:
            for file, lines in files.items():
                # Not today's date: the same model gives the same file.
                entry = zipfile.ZipInfo(file)
                entry.external_attr = 0o644 << 16
                archive.writestr(entry, "".join(f"{line}\n" for line in lines))
    return stream.getvalue()


# --- The model that the metadata goes into --------------------------------------------


def _output_shape(model, output):
    """The shape of the output, of a model that `add_metadata` can describe."""
    from ai_edge_litert.schema_py_generated import TensorType

    if output not in MEANINGS:
        raise ValueError(f"output expects one of {[*MEANINGS]}. Received: {output!r}")
    names = {value: name.lower() for name, value in vars(TensorType).items()}
    graph = model.subgraphs[0]
    tensors = [graph.tensors[i] for i in [*graph.inputs, *graph.outputs]]
    received = [(names[x.type], *map(int, x.shape)) for x in tensors]
    kinds = LABELS if output == "labels" else SCORES
    if len(graph.inputs) == len(graph.outputs) == 1:
        (taken, *image), (given, *result) = received
        takes_image = taken in {"uint8", "float32"} and len(image) == 4
        if takes_image and image[3] == 3 and (given, len(result)) in kinds:
            return result
    raise ValueError(
        f"A file of {output} takes one uint8 or float32 (1, H, W, 3) and gives one of "
        f"{' or '.join(f'{dtype} with {rank} axes' for dtype, rank in sorted(kinds))}. "
        f"Received: {received}"
    )


def _set_metadata(model, content):
    """Put it into the buffer that earlier metadata has, or into a new one."""
    from ai_edge_litert.schema_py_generated import BufferT, MetadataT

    buffer = BufferT()
    buffer.data = np.frombuffer(content, np.uint8)
    model.metadata = model.metadata or []
    for entry in model.metadata:
        if entry.name == b"TFLITE_METADATA":
            model.buffers[entry.buffer] = buffer
            return
    entry = MetadataT()
    entry.name, entry.buffer = "TFLITE_METADATA", len(model.buffers)
    model.metadata.append(entry)
    model.buffers.append(buffer)


# --- The tables of the schema, with the fields in the order of the slots --------------

IMAGE = 2  # of the kinds of content
NORMALIZATION = 1  # of the process units
RGB, GRAYSCALE = 1, 2
LABELS_OF_AXIS, LABELS_OF_VALUES = 2, 3
# None and softmax. MediaPipe would take the rows of a label map for classes, and every
# pixel for class 0; it refuses a file with an activation that it does not know.
ACTIVATIONS = {"confidence": 0, "logits": 2, "labels": 127}


class _ModelMetadata(NamedTuple):
    name: str
    description: str
    version: str | None
    subgraph_metadata: list
    author: str | None = None
    license: str | None = None
    associated_files: list | None = None
    min_parser_version: str = "1.5.0"


class _SubGraphMetadata(NamedTuple):
    name: str | None = None
    description: str | None = None
    input_tensor_metadata: list | None = None
    output_tensor_metadata: list | None = None
    associated_files: list | None = None
    input_process_units: list | None = None
    output_process_units: list | None = None
    input_tensor_groups: list | None = None
    output_tensor_groups: list | None = None
    custom_metadata: list | None = None


class _TensorMetadata(NamedTuple):
    name: str
    description: str
    dimension_names: list | None = None
    content: tuple | None = None
    process_units: list | None = None
    stats: tuple | None = None
    associated_files: list | None = None


class _Content(NamedTuple):
    kind: int
    properties: tuple
    range: tuple | None = None


class _ImageProperties(NamedTuple):
    color_space: int


class _Range(NamedTuple):
    min: np.int32
    max: np.int32


class _ProcessUnit(NamedTuple):
    kind: int
    options: tuple


class _Normalization(NamedTuple):
    mean: np.ndarray
    std: np.ndarray


class _Stats(NamedTuple):
    max: np.ndarray
    min: np.ndarray


class _AssociatedFile(NamedTuple):
    name: str
    description: str | None = None
    type: int | None = None


class _CustomMetadata(NamedTuple):
    name: str
    data: bytes


class _ImageSegmenterOptions(NamedTuple):
    activation: int
    min_parser_version: str = "1.0.0"


def _pack(root, identifier):
    """A flatbuffer of a table above."""
    import flatbuffers

    builder = flatbuffers.Builder()
    builder.Finish(_write(builder, root), identifier)
    return bytes(builder.Output())


def _write(builder, value):
    """Write a string, data, a vector or a table, and return where it is."""
    match value:
        case str():
            return builder.CreateString(value)
        case bytes():
            builder.Prep(16, len(value))  # the schema's alignment
            return builder.CreateByteVector(value)
        case np.ndarray():
            return builder.CreateNumpyVector(value)
    # What a vector or a table refers to comes first; numbers are part of the table.
    fields = [_write(builder, x) if _refers(x) else x for x in value]
    if isinstance(value, list):
        builder.StartVector(4, len(fields), 4)
        for place in reversed(fields):
            builder.PrependUOffsetTRelative(place)
        return builder.EndVector()
    builder.StartObject(len(fields))
    for slot, (original, field) in enumerate(zip(value, fields, strict=True)):
        if _refers(original):
            builder.PrependUOffsetTRelativeSlot(slot, field, 0)
        elif isinstance(field, np.int32):
            builder.PrependInt32Slot(slot, field, 0)
        elif field is not None:
            builder.PrependUint8Slot(slot, field, 0)
    return builder.EndObject()


def _refers(value):
    return not isinstance(value, int | np.int32 | None)
