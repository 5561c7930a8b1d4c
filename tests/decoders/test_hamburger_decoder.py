from functools import partial

import numpy as np
import pytest

from keras_lrseg.checkpoints import classifiers, segnext
from keras_lrseg.checkpoints.convert import assign_state_dict
from keras_lrseg.decoders import HamburgerDecoder
from keras_lrseg.models.classifiers import make_classifier
from tests.checks import check_layer
from tests.helpers import refused, run
from tests.layers.test_hamburger import give_authors_bases
from tests.reference import assert_offseg, load_layer, offseg_inputs, offseg_state

PYRAMID = {"P3": (2, 9, 14, 8), "P4": (2, 5, 7, 8), "P5": (2, 3, 4, 8)}


def test_decoder_is_a_well_behaved_layer():
    check_layer(partial(HamburgerDecoder, 96), PYRAMID)


@pytest.mark.parametrize(
    ("name", "kind"), [("ham_head", "pixel"), ("ham_head_ol", "offset")]
)
def test_head_is_the_authors(name, kind):
    pyramid = dict(zip(PYRAMID, offseg_inputs(name).values(), strict=True))
    widths = [x.shape[-1] for x in pyramid.values()]
    state = offseg_state(name)
    # Of widths that no published checkpoint has.
    parts = np.split(state.pop(segnext.SQUEEZE), np.cumsum(widths)[:-1], axis=1)
    state |= {f"squeeze.{i}.conv.weight": part for i, part in enumerate(parts)}

    names = {"pixel": classifiers.PIXEL, "offset": classifiers.OFFSET}[kind]
    heads = ("conv_seg.", "offset_learning.")
    own = {k: state.pop(k) for k in list(state) if k.startswith(heads)}
    decoder = HamburgerDecoder(64)
    shapes = {level: x.shape for level, x in pyramid.items()}
    load_layer(decoder, shapes, "", state, segnext.DECODER)
    give_authors_bases(decoder.hamburger.factorization)
    features = run(decoder, pyramid)

    classifier = make_classifier(kind, 7)
    classifier.build(features.shape)
    weights = {
        names.key(w.path.removeprefix("classifier/")): w for w in classifier.weights
    }
    assign_state_dict(weights, names.used(own), name)
    assert_offseg(run(classifier, features), f"{name}/out")


def test_small_levels_are_squeezed_before_they_are_enlarged():
    shapes = {"P3": (1, 8, 12, 4), "P4": (1, 4, 6, 8), "P5": (1, 2, 3, 16)}
    decoder = HamburgerDecoder(32)
    # What a quarter and a sixteenth of P3's positions save.
    saved = 8 * 12 * 32 * (8 * 3 // 4 + 16 * 15 // 16)
    assert decoder.published_flops(shapes) == saved


@pytest.mark.parametrize("missing", ["P3", "P5"])
def test_missing_level_is_named(missing):
    pyramid = {level: shape for level, shape in PYRAMID.items() if level != missing}
    for method in ("build", "compute_output_shape"):
        with refused("HamburgerDecoder", "['P3', 'P4', 'P5']", sorted(pyramid)):
            getattr(HamburgerDecoder(32), method)(pyramid)


def test_channels_that_make_no_groups_are_refused():
    with refused("multiples of 32", "channels=48"):
        HamburgerDecoder(48)
