from functools import partial

import pytest

from keras_lrseg.decoders import LRDecoder
from tests.checks import check_layer, inputs_of
from tests.helpers import refused, tensors

PYRAMID = {"P3": (2, 9, 14, 8), "P4": (2, 5, 7, 8), "P5": (2, 3, 4, 8)}


def test_decoder_is_a_well_behaved_layer():
    check_layer(partial(LRDecoder, 8, 2, pool_size=4, expansion_ratio=2), PYRAMID)


def test_further_levels_are_not_used():
    pyramid = {"P2": (2, 18, 28, 8), **PYRAMID}
    decoder = LRDecoder(8, 2)
    decoder.build(pyramid)
    assert decoder.squeezes[0].kernel.shape == (3 * 8, 8)
    assert decoder.compute_output_shape(pyramid) == (2, 9, 14, 8)


@pytest.mark.parametrize("missing", ["P3", "P5"])
def test_missing_level_is_named(missing):
    pyramid = {level: shape for level, shape in PYRAMID.items() if level != missing}
    for method in ("build", "compute_output_shape"):
        with refused("LRDecoder expects", "['P3', 'P4', 'P5']", sorted(pyramid)):
            getattr(LRDecoder(8, 2), method)(pyramid)
    with pytest.raises(ValueError, match="LRDecoder expects"):
        LRDecoder(8, 2)(tensors(inputs_of(pyramid)))


def test_single_feature_map_is_refused():
    with refused("expects a dict", "tuple"):
        LRDecoder(8, 2).build(PYRAMID["P3"])
