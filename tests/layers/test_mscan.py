"""MSCAN's block against the authors' numbers."""

import numpy as np
import pytest

from keras_lrseg.checkpoints import segnext
from keras_lrseg.layers import MSCABlock
from tests.helpers import fill, normal, numpy, run
from tests.reference import assert_offseg, load_layer, offseg_inputs, offseg_state


def test_block_is_the_authors():
    x = offseg_inputs("msca_block")["x"]
    state = offseg_state("msca_block")
    layer = load_layer(MSCABlock(), x.shape, "", state, segnext.BACKBONE)
    assert_offseg(run(layer, x), "msca_block/out")


def test_norms_inside_the_convolutions_change_nothing():
    layer = MSCABlock()
    x = normal(0, (1, 9, 14, 8))
    layer.build(x.shape)
    fill(layer)
    np.testing.assert_allclose(run(layer.infer, x), run(layer, x), rtol=1e-4, atol=1e-4)


def test_kernels_start_as_the_authors_do():
    layer = MSCABlock()
    layer.build((None, 8, 8, 256))
    for weight in layer.trainable_weights:
        if weight.name == "kernel":
            taps = weight.shape[0] * weight.shape[1] if len(weight.shape) == 4 else 1
            outputs = 1 if len(weight.shape) == 4 else weight.shape[1]
            deviation = (2 / (taps * outputs)) ** 0.5
            assert numpy(weight).std() == pytest.approx(deviation, rel=0.06)
