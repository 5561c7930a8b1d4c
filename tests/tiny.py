"""Models small enough to compile in a test."""

import contextlib
import functools
from unittest import mock

from keras_lrseg import SemanticSegmenter
from keras_lrseg.backbones import LRFormerBackbone
from keras_lrseg.decoders import (
    DeformablePixelDecoder,
    LRDecoder,
    MaskedAttentionDecoder,
)
from keras_lrseg.models import variants
from keras_lrseg.models.classifiers import make_classifier
from tests.helpers import fill, no_random_start

# Few distinct shapes: JAX compiles a random start of each.
TINY = {"channels": (8, 8, 8, 8), "depths": (1, 1, 2, 1), "num_heads": (1, 1, 1, 1)}


def tiny_backbone(**settings):
    return LRFormerBackbone(**{**TINY, **settings})


def tiny_segmenter(
    num_classes=7, dtype=None, backbone=None, decoder=None, classifier=None, **settings
):
    settings.setdefault("include_preprocessing", False)
    return SemanticSegmenter(
        backbone or tiny_backbone(dtype=dtype),
        decoder or LRDecoder(8, name="decoder", dtype=dtype),
        classifier or make_classifier("pixel", num_classes, dtype),
        **settings,
    )


@contextlib.contextmanager
def small_mask_decoders():
    """Make Mask2Former's decoders of the named models as small as they can be."""
    settings = {"depth": 1, "num_heads": 2, "hidden_channels": 16}
    pixels = functools.partial(
        DeformablePixelDecoder, channels=32, num_points=2, **settings
    )
    masks = functools.partial(MaskedAttentionDecoder, **settings)
    with (
        mock.patch.object(variants, "DeformablePixelDecoder", pixels),
        mock.patch.object(variants, "MaskedAttentionDecoder", masks),
    ):
        yield


def filled(make, **settings):
    """Make a model with seeded weights."""
    with no_random_start():
        model = make(**settings)
    return fill(model)
