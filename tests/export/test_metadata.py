import importlib.util
import io
import pathlib
import zipfile

import numpy as np
import pytest

from keras_lrseg.export.metadata import add_metadata
from tests.export.graphs import SIZE, map_file, packed, repacked, tensor

schema = pytest.importorskip("ai_edge_litert.schema_py_generated")

NAMES = ["sky", "road, wet", "Bäume"]
COLOURS = [(0, 0, 255), (128, 64, 128), (16, 128, 0)]
WEIGHTS = np.random.default_rng(0).normal(size=(1, *SIZE, 3)).astype("float32")
ABOUT = {"name": "Street", "description": "A test. Patent.", "output": "logits"}


# --- TFLite files by hand: a test needs no converter ----------------------------------


def operator(kind, code, inputs, output):
    """The code and the call of an operator without an activation, such as "Mul"."""
    kinds = schema.OperatorCodeT()
    kinds.builtinCode = kinds.deprecatedBuiltinCode = code
    kinds.version = 1
    call = schema.OperatorT()
    call.opcodeIndex = 0
    call.inputs, call.outputs = list(inputs), [output]
    call.builtinOptionsType = getattr(schema.BuiltinOptions, f"{kind}Options")
    call.builtinOptions = getattr(schema, f"{kind}OptionsT")()
    return kinds, call


def product(behind=False):
    """A file of logits, (1, 4, 6, 3), the image times `WEIGHTS`.

    Args:
        behind: the weights lie behind the flatbuffer, as ai-edge-quantizer puts them.
    """
    tensors = [tensor("float32", *WEIGHTS.shape, buffer=i) for i in (0, 0, 1)]
    data, buffer = WEIGHTS.view("uint8").ravel(), schema.BufferT()
    multiply = [operator("Mul", schema.BuiltinOperator.MUL, (0, 2), 1)]
    if not behind:
        buffer.data = data
        return packed(tensors, operators=multiply, buffers=[buffer])
    buffer.offset = buffer.size = 1  # so that the fields are there to be filled
    length = len(packed(tensors, operators=multiply, buffers=[buffer]))
    buffer.offset, buffer.size = length, data.size
    return packed(tensors, operators=multiply, buffers=[buffer]) + data.tobytes()


def mean_colour():
    """A file of a classifier, from an image (1, 4, 6, 3) to its means (1, 3)."""
    axes = schema.BufferT()
    axes.data = np.int32([1, 2]).view("uint8")
    image, means = tensor("float32", 1, *SIZE, 3), tensor("float32", 1, 3)
    mean = operator("Reducer", schema.BuiltinOperator.MEAN, (0, 2), 1)
    tensors = [image, means, tensor("int32", 2, buffer=1)]
    return packed(tensors, operators=[mean], buffers=[axes])


def run(content, image):
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    runner = interpreter.Interpreter(model_content=content)
    runner.allocate_tensors()
    runner.set_tensor(runner.get_input_details()[0]["index"], image)
    runner.invoke()
    return runner.get_tensor(runner.get_output_details()[0]["index"])


# --- Reading back, with MediaPipe's readers -------------------------------------------


def reader(name):
    """A generated schema of MediaPipe's wheel, without MediaPipe's libraries."""
    spec = importlib.util.find_spec("mediapipe")
    if spec is None:
        pytest.skip("mediapipe, whose schemas read the metadata, is not installed")
    folder = pathlib.Path(spec.origin).parent / "tasks" / "metadata"
    path = folder / f"{name}_schema_py_generated.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def metadata_of(content):
    """The metadata of a file, as objects of MediaPipe's schema."""
    data = metadata_bytes(content)
    assert data[4:8] == b"M001"
    return reader("metadata").ModelMetadataT.InitFromPackedBuf(data)


def metadata_bytes(content):
    model = schema.ModelT.InitFromPackedBuf(content)
    (entry,) = [x for x in model.metadata if x.name == b"TFLITE_METADATA"]
    return model.buffers[entry.buffer].data.tobytes()


def text_files(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name).decode() for name in archive.namelist()}


def activation_of(content):
    (custom,) = metadata_of(content).subgraphMetadata[0].customMetadata
    assert custom.name == b"SEGMENTER_METADATA"
    data = custom.data.tobytes()
    assert data[4:8] == b"V001"
    options = reader("image_segmenter_metadata").ImageSegmenterOptionsT
    return options.InitFromPackedBuf(data).activation


# --- Tests ----------------------------------------------------------------------------


def test_metadata_says_what_the_model_is():
    content = add_metadata(
        map_file(), **ABOUT, labels=NAMES, version="0.1", license="CC-BY-4.0"
    )
    metadata = metadata_of(content)
    assert metadata.name == b"Street"
    assert metadata.description == b"A test. Patent."
    assert metadata.version == b"0.1"
    assert metadata.license == b"CC-BY-4.0"
    assert metadata.minParserVersion == b"1.5.0"
    assert schema.ModelT.InitFromPackedBuf(content).description == b"A test. Patent."


def test_image_goes_in_as_it_is():
    metadata = metadata_of(add_metadata(map_file(), **ABOUT))
    (image,) = metadata.subgraphMetadata[0].inputTensorMetadata
    kinds = reader("metadata")
    assert (
        image.content.contentPropertiesType == kinds.ContentProperties.ImageProperties
    )
    assert image.content.contentProperties.colorSpace == kinds.ColorSpaceType.RGB
    (unit,) = image.processUnits
    assert unit.optionsType == kinds.ProcessUnitOptions.NormalizationOptions
    assert (unit.options.mean, unit.options.std) == (0, 1)
    assert (image.stats.min, image.stats.max) == (0, 255)


@pytest.mark.parametrize(
    ("output", "result", "axis"),
    [
        ("logits", ("float32", (1, 4, 6, 3)), True),
        ("confidence", ("float32", (1, 8, 12, 3)), True),
        ("labels", ("uint8", (1, 4, 6)), False),
        ("logits", ("float32", (1, 3)), True),
        ("labels", ("int32", (1,)), False),
    ],
)
def test_output_names_its_classes(output, result, axis):
    about = ABOUT | {"output": output}
    content = add_metadata(map_file(*result), **about, labels=NAMES, palette=COLOURS)
    assert text_files(content) == {
        "labels.txt": "sky\nroad, wet\nBäume\n",
        "palette.txt": "#0000ff\n#804080\n#108000\n",
    }
    metadata = metadata_of(content)
    (tensor,) = metadata.subgraphMetadata[0].outputTensorMetadata
    assert tensor.name.decode() == output
    kinds = reader("metadata").AssociatedFileType
    kind = kinds.TENSOR_AXIS_LABELS if axis else kinds.TENSOR_VALUE_LABELS
    files = [(file.name, file.type) for file in tensor.associatedFiles]
    assert files == [(b"labels.txt", kind), (b"palette.txt", kinds.UNKNOWN)]
    is_map = len(result[1]) > 2
    assert (tensor.content is not None) == is_map
    if is_map:
        assert (tensor.content.range.min, tensor.content.range.max) == (1, 2)


@pytest.mark.parametrize(("output", "activation"), [("logits", 2), ("confidence", 0)])
def test_image_segmenter_knows_the_activation(output, activation):
    content = add_metadata(map_file(), **ABOUT | {"output": output})
    assert activation_of(content) == activation


def test_activation_of_labels_is_none_that_image_segmenter_knows():
    content = map_file("uint8", (1, *SIZE))
    content = add_metadata(content, **ABOUT | {"output": "labels"})
    activations = reader("image_segmenter_metadata").Activation
    assert activation_of(content) not in vars(activations).values()


def test_classifier_is_nothing_for_image_segmenter():
    graph = metadata_of(add_metadata(mean_colour(), **ABOUT)).subgraphMetadata[0]
    assert graph.customMetadata is None


def test_without_names_nothing_is_behind_the_model():
    content = add_metadata(map_file(), **ABOUT)
    assert not zipfile.is_zipfile(io.BytesIO(content))


def test_names_may_be_numbers_and_colours_an_array():
    content = add_metadata(
        map_file(), **ABOUT, labels=np.arange(3), palette=np.uint8(COLOURS)
    )
    assert text_files(content) == {
        "labels.txt": "0\n1\n2\n",
        "palette.txt": "#0000ff\n#804080\n#108000\n",
    }


@pytest.mark.parametrize("behind", [False, True])
def test_model_computes_what_it_did(behind):
    image = np.random.default_rng(1).uniform(0, 255, WEIGHTS.shape).astype("float32")
    before = product(behind)
    after = add_metadata(before, **ABOUT, labels=NAMES)
    np.testing.assert_array_equal(run(before, image), image * WEIGHTS)
    np.testing.assert_array_equal(run(after, image), image * WEIGHTS)


@pytest.mark.parametrize("behind", [False, True])
def test_weights_and_metadata_start_at_multiples_of_16(behind):
    content = add_metadata(product(behind), **ABOUT, labels=NAMES)
    for data in (WEIGHTS.tobytes(), metadata_bytes(content)):
        assert content.count(data) == 1
        assert content.index(data) % 16 == 0


def test_new_metadata_takes_the_place_of_the_old():
    about = ABOUT | {"description": "The first description"}
    twice = add_metadata(product(), **about, labels=["old", "older", "oldest"])
    twice = add_metadata(twice, **ABOUT, labels=NAMES)
    assert twice == add_metadata(product(), **ABOUT, labels=NAMES)
    assert b"first description" not in twice
    assert b"oldest" not in twice


def test_other_metadata_stays():
    model = schema.ModelT.InitFromPackedBuf(product())
    entry, buffer = schema.MetadataT(), schema.BufferT()
    entry.name, entry.buffer = "min_runtime_version", len(model.buffers)
    buffer.data = np.frombuffer(b"1.5.0", "uint8")
    model.metadata, model.buffers = [entry], [*model.buffers, buffer]
    result = add_metadata(repacked(model), **ABOUT)
    result = schema.ModelT.InitFromPackedBuf(result)
    names = {x.name: result.buffers[x.buffer].data.tobytes() for x in result.metadata}
    assert list(names) == [b"min_runtime_version", b"TFLITE_METADATA"]
    assert names[b"min_runtime_version"] == b"1.5.0"


GREY = [tensor("uint8", 1, 8, 12, 1), tensor("float32", 1, 4, 6, 3)]
TWO = [tensor("uint8", 1, 8, 12, 3), *[tensor("float32", 1, 4, 6, 3)] * 2]


@pytest.mark.parametrize(
    ("content", "changed", "message"),
    [
        (b"no model at all", {}, "bytes of a TFLite file"),
        (map_file(), {"output": "masks"}, "'logits', 'confidence', 'labels'.*'masks'"),
        (map_file("uint8"), {}, r"logits.*float32 with 2 axes.*'uint8', 1, 4, 6, 3"),
        (map_file(), {"output": "labels"}, r"uint8 with 3 axes.*'float32', 1, 4, 6, 3"),
        (map_file(image="int8"), {}, r"uint8 or float32 \(1, H, W, 3\).*'int8', 1, 8"),
        (packed(GREY), {}, r"\(1, H, W, 3\).*8, 12, 1"),
        (packed(TWO, outputs=(1, 2)), {}, "gives one of"),
        (map_file(), {"labels": NAMES[:2]}, "labels expects.*3 classes.*2, .'sky'"),
        (map_file(), {"palette": COLOURS[:2]}, "palette expects.*3 classes"),
        (map_file(), {"labels": ["a", "b\nc", "d"]}, "one line of text"),
        (map_file(), {"labels": ["a", "", "d"]}, "one line of text"),
        (map_file(), {"palette": [(0, 0, 256)] * 3}, r"0\.\.255.*\(0, 0, 256\)"),
        (map_file(), {"palette": [(0, -1, 0)] * 3}, r"0\.\.255.*\(0, -1, 0\)"),
        (map_file(), {"palette": [(0, 0)] * 3}, r"three numbers.*\(0, 0\)"),
    ],
)
def test_what_does_not_fit_is_refused(content, changed, message):
    with pytest.raises(ValueError, match=message):
        add_metadata(content, **ABOUT | changed)
