"""OffSeg's pixel decoder: the authors' numbers, any size, and as a TFLite file."""

from functools import partial

import keras
import numpy as np
import pytest

from keras_lrseg.checkpoints.classifiers import OFFSET
from keras_lrseg.checkpoints.convert import assign_state_dict
from keras_lrseg.checkpoints.offseg import DECODER
from keras_lrseg.decoders import FreqFusionDecoder
from keras_lrseg.decoders.freq_fusion_decoder import alternate_groups
from keras_lrseg.layers import OffsetLearning, PointwiseConvolution
from tests.checks import check_layer, inputs_of, run_dynamic
from tests.helpers import fill, refused, run, tensorflow_only, tensors
from tests.reference import assert_offseg, offseg_inputs, offseg_state

PYRAMID = {
    "P2": (2, 17, 14, 4),
    "P3": (2, 9, 7, 6),
    "P4": (2, 5, 4, 8),
    "P5": (2, 3, 2, 8),
}
LARGER = {
    "P2": (2, 12, 21, 4),
    "P3": (2, 6, 11, 6),
    "P4": (2, 3, 6, 8),
    "P5": (2, 2, 3, 8),
}
small = partial(FreqFusionDecoder, (32,) * 4, 32)


def test_plain_decoder_is_a_well_behaved_layer():
    check_layer(partial(small, freq_fusion=False), PYRAMID, LARGER)


@tensorflow_only
def test_sizes_may_be_unknown():
    decoder, pyramid = fill_built(small(), PYRAMID), inputs_of(PYRAMID)
    expected = run(decoder, pyramid)
    assert expected.shape == decoder.compute_output_shape(PYRAMID)
    np.testing.assert_allclose(run_dynamic(decoder, pyramid), expected, 1e-4, 1e-4)


def test_head_is_the_authors():
    name = "offseg_head"
    pyramid = dict(zip(PYRAMID, offseg_inputs(name).values(), strict=True))
    decoder = FreqFusionDecoder(channels=64, name="decoder")
    classifier = OffsetLearning(7, name="classifier")
    inputs = {
        level: keras.Input(x.shape[1:], name=level) for level, x in pyramid.items()
    }
    model = keras.Model(inputs, classifier(decoder(inputs)))
    variables = {}
    for part, names in ((decoder, DECODER), (classifier, OFFSET)):
        for variable in part.weights:
            path = variable.path.removeprefix(f"{part.name}/")
            variables[names.key(path)] = variable
    assign_state_dict(variables, OFFSET.used(DECODER.used(offseg_state(name))), name)
    assert_offseg(run(model, pyramid), f"{name}/out", tolerance=1e-3)


@tensorflow_only
def test_file_for_phones_gives_the_same_with_builtin_operators_of_four_axes():
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    shapes = {level: (1, *shape[1:]) for level, shape in PYRAMID.items()}
    decoder, classifier = fill_built(small(), shapes), PointwiseConvolution(5)
    classifier.build((None, None, None, 32))
    signature = {
        level: tf.TensorSpec(shape, tf.float32, name=level)
        for level, shape in shapes.items()
    }

    @tf.function(input_signature=[signature])
    def infer(pyramid):
        return classifier(decoder(pyramid))

    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [infer.get_concrete_function()]
    )
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    interpreter = Interpreter(model_content=converter.convert())

    operators = [op["op_name"] for op in interpreter._get_ops_details()]
    assert not [op for op in operators if op.startswith(("Flex", "CUSTOM"))]
    assert operators.count("GATHER") <= 4 * 3  # each fusion reads at four corners
    ranks = {len(t["shape"]) for t in interpreter.get_tensor_details()}
    assert max(ranks) == 4

    interpreter.allocate_tensors()
    pyramid = inputs_of(shapes)
    for tensor in interpreter.get_input_details():
        level = next(name for name in shapes if name in tensor["name"])
        interpreter.set_tensor(tensor["index"], pyramid[level])
    interpreter.invoke()
    (output,) = interpreter.get_output_details()
    expected = run(infer, pyramid)
    difference = abs(interpreter.get_tensor(output["index"]) - expected).max()
    assert difference <= 1e-4 * expected.std()


def fill_built(layer, shapes):
    layer.build(shapes)
    return fill(layer)


@pytest.mark.parametrize("channels", [64, 2048])
def test_channels_are_those_of_the_output(channels):
    decoder = FreqFusionDecoder(channels=channels)
    shapes = {level: (1, None, None, 8) for level in PYRAMID}
    decoder.build(shapes)
    assert decoder.compute_output_shape(shapes) == (1, None, None, channels)
    assert decoder.align.convolution.kernel.shape == (256, channels)


def test_plain_decoder_enlarges_without_weights():
    decoders = [small(name="decoder", freq_fusion=value) for value in (True, False)]
    for decoder in decoders:
        decoder.build(PYRAMID)
    paths = [{w.path for w in decoder.weights} for decoder in decoders]
    assert paths[1] == {path for path in paths[0] if "/fusion" not in path}


@pytest.mark.parametrize("missing", ["P2", "P5"])
def test_missing_level_is_named(missing):
    pyramid = {level: shape for level, shape in PYRAMID.items() if level != missing}
    for method in ("build", "compute_output_shape"):
        with refused("FreqFusionDecoder expects", "'P2', 'P3'", sorted(pyramid)):
            getattr(small(), method)(pyramid)
    with pytest.raises(ValueError, match="FreqFusionDecoder expects"):
        small()(tensors(inputs_of(pyramid)))


def test_levels_of_other_sizes_are_refused():
    with refused("half the size", "(4, 4) for (8, 7)", "(5, 4)"):
        small().build({**PYRAMID, "P3": (2, 8, 7, 6)})


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"widths": (32, 64, 128)}, "(32, 64, 128)"),
        ({"widths": (32, 48, 64, 128)}, "(32, 48, 64, 128)"),
        ({"channels": 100}, "channels=100"),
        ({"channels": 0}, "channels=0"),
    ],
)
def test_widths_are_multiples_of_the_groups(settings, words):
    with refused("multiples of 32", words):
        FreqFusionDecoder(**settings)


def test_levels_alternate_in_four_groups():
    high, low = (np.full((1, 2, 3, n), n, "float32") for n in (4, 8))
    output = run(alternate_groups, [high, low])
    np.testing.assert_array_equal(output[0, 0, 0], [4, 8, 8] * 4)
