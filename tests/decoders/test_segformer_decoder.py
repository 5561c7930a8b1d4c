from functools import partial

import pytest

from keras_lrseg.checkpoints import classifiers
from keras_lrseg.checkpoints.segformer import DECODER
from keras_lrseg.decoders import SegFormerDecoder
from keras_lrseg.models.classifiers import make_classifier
from tests.checks import check_layer
from tests.helpers import refused, run
from tests.reference import assert_offseg, load_layer, offseg_inputs, offseg_state

PYRAMID = {
    "P2": (2, 9, 14, 6),
    "P3": (2, 5, 7, 8),
    "P4": (2, 3, 4, 8),
    "P5": (2, 2, 2, 10),
}


def test_decoder_is_a_well_behaved_layer():
    larger = {k: (b, h + 2, w + 1, c) for k, (b, h, w, c) in PYRAMID.items()}
    check_layer(partial(SegFormerDecoder, 8, pool=True), PYRAMID, larger)


HEADS = {
    "segformer_head": ("pixel", classifiers.PIXEL),
    "segformer_head_ol": ("offset", classifiers.OFFSET),
}


@pytest.mark.parametrize("name", HEADS)
def test_head_reproduces_the_authors_output(name):
    kind, names = HEADS[name]
    features = dict(zip(PYRAMID, offseg_inputs(name).values(), strict=True))
    shapes = {level: x.shape for level, x in features.items()}
    of_classifier = ("conv_seg.", "offset_learning.")
    state = offseg_state(name)
    own = {k: v for k, v in state.items() if not k.startswith(of_classifier)}
    decoder = SegFormerDecoder(32, pool=kind == "offset")
    load_layer(decoder, shapes, "", own, DECODER)
    classifier = make_classifier(kind, 7)
    state = {k: v for k, v in state.items() if k not in own}
    load_layer(classifier, decoder.compute_output_shape(shapes), "", state, names)
    logits = run(classifier, run(decoder, features))
    assert_offseg(logits, f"{name}/out")


def test_fusion_counts_what_it_saves():
    shapes = {level: (2, *s[1:]) for level, s in PYRAMID.items()}
    decoder = SegFormerDecoder(8)
    positions = [2 * h * w for _, h, w, _ in shapes.values()]
    saved = 4 * 8 * 8 * positions[0] - 8 * 8 * sum(positions)
    assert decoder.published_flops(shapes) == saved
    assert decoder.attention_flops(shapes) == 0


def test_missing_level_is_named():
    pyramid = {level: shape for level, shape in PYRAMID.items() if level != "P4"}
    for method in ("build", "compute_output_shape"):
        with refused("SegFormerDecoder expects", "['P2', 'P3', 'P4', 'P5']"):
            getattr(SegFormerDecoder(8), method)(pyramid)
