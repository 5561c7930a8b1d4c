"""SegNeXt, with its own 1×1 classifier or with Offset Learning.

Papers: Guo et al., "SegNeXt: Rethinking Convolutional Attention Design for Semantic
Segmentation", NeurIPS 2022, variants in Table 2; Offset Learning: OffSeg, ICCV 2025.

Deviations: any image size is taken (the authors pad to multiples of 32); the
factorisation starts from fixed bases in inference (theirs from random ones), so that
results repeat.
"""

from keras_lrseg.backbones.mscan import VARIANTS, MSCANBackbone
from keras_lrseg.decoders import HamburgerDecoder
from keras_lrseg.models.classifiers import is_offset
from keras_lrseg.models.variants import (
    RETURNS_SEGMENTER,
    SEGMENTER_ARGUMENTS,
    make_segmenter,
    named,
)

DECODER_CHANNELS = {"T": 256, "S": 256, "B": 512, "L": 1024}

_DOC = """{name}: SegNeXt with the MSCAN-{variant} backbone and `HamburgerDecoder`.

Args:
{arguments}\
    decoder_channels: None for {channels}, the value of this variant.
    seed: of the bases that the decoder's factorisation starts from.

`dropout_rate=None` is 0.1, with `classifier="offset"` 0.

Patent notice: the authors of OffSeg permit non-commercial use of Offset Learning only.

{returns}
Example:

>>> model = keras_lrseg.{name}(num_classes=150, classifier="offset")
>>> model(images).shape
"""


def _segmenter(variant):
    default_name = f"segnext_{variant.lower()}"

    def build(
        num_classes,
        weights=None,
        backbone_weights=None,
        classifier="pixel",
        input_shape=(None, None, 3),
        include_preprocessing=True,
        upsample=True,
        activation=None,
        dropout_rate=None,
        drop_path_rate=None,
        decoder_channels=None,
        seed=0,
        reset_head=False,
        name=default_name,
        dtype=None,
    ):
        settings = dict(VARIANTS[variant])
        if drop_path_rate is not None:
            settings["drop_path_rate"] = drop_path_rate
        if dropout_rate is None:
            dropout_rate = 0.0 if is_offset(classifier) else 0.1
        backbone = MSCANBackbone(**settings, input_shape=input_shape, dtype=dtype)
        decoder = HamburgerDecoder(
            DECODER_CHANNELS[variant] if decoder_channels is None else decoder_channels,
            seed=seed,
            name="decoder",
            dtype=dtype,
        )
        return make_segmenter(
            backbone,
            decoder,
            num_classes,
            classifier,
            weights=weights,
            backbone_weights=backbone_weights,
            reset_head=reset_head,
            input_shape=input_shape,
            include_preprocessing=include_preprocessing,
            upsample=upsample,
            activation=activation,
            dropout_rate=dropout_rate,
            name=name,
            dtype=dtype,
        )

    doc = _DOC.format(
        name=f"SegNeXt{variant}",
        variant=variant,
        channels=DECODER_CHANNELS[variant],
        arguments=SEGMENTER_ARGUMENTS,
        returns=RETURNS_SEGMENTER,
    )
    return named(build, f"SegNeXt{variant}", doc)


SegNeXtT = _segmenter("T")
SegNeXtS = _segmenter("S")
SegNeXtB = _segmenter("B")
SegNeXtL = _segmenter("L")
