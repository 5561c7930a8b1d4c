"""A backbone of KerasHub under every decoder, and both classifiers."""

import keras
import pytest

from keras_lrseg import SemanticSegmenter
from keras_lrseg.decoders import (
    FreqFusionDecoder,
    HamburgerDecoder,
    LRDecoder,
    SegFormerDecoder,
)
from keras_lrseg.models.classifiers import make_classifier
from tests.checks import check_trains_and_saves

if keras.config.backend() != "torch":
    pytestmark = pytest.mark.slow  # compiles for half a minute each


@pytest.mark.parametrize(
    ("decoder", "settings", "classifier"),
    [
        (LRDecoder, {"channels": 8}, "pixel"),
        (SegFormerDecoder, {"channels": 8}, "offset"),
        (HamburgerDecoder, {"channels": 32}, "pixel"),
        (FreqFusionDecoder, {"widths": (32,) * 4, "channels": 32}, "offset"),
    ],
)
def test_resnet_trains_and_saves_under_every_decoder(decoder, settings, classifier):
    keras_hub = pytest.importorskip(
        "keras_hub", reason="needs: pip install 'keras-lrseg[neighbours]'"
    )
    backbone = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 8, 8, 8],
        stackwise_num_blocks=[1, 1, 1, 1],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="basic_block",
    )
    model = SemanticSegmenter(
        backbone, decoder(**settings), make_classifier(classifier, 5)
    )
    check_trains_and_saves(model, 72, 88)
