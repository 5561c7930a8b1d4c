"""OffSeg: EfficientFormerV2, the FreqFusion decoder and Offset Learning.

Paper: "Revisiting Efficient Semantic Segmentation: Learning Offsets for Better Spatial
and Class Feature Alignment", ICCV 2025; section 4.1, with the widths below.

Deviations: any image size is taken (the authors' code needs multiples of 32); batch
norms always train (the authors' code freezes them without ImageNet weights).

The authors attach a patent notice to Offset Learning: non-commercial use only.
"""

from keras_lrseg.backbones.efficientformer_v2 import VARIANTS, EfficientFormerV2Backbone
from keras_lrseg.decoders import FreqFusionDecoder
from keras_lrseg.models.variants import (
    RETURNS_SEGMENTER,
    SEGMENTER_ARGUMENTS,
    make_segmenter,
    named,
)

BACKBONES = {"T": "S1", "B": "S2", "L": "L"}
DECODER_WIDTHS = {
    "T": (32, 32, 64, 128),
    "B": (32, 64, 128, 256),
    "L": (32, 64, 128, 256),
}

_DOC = """{name}: OffSeg with EfficientFormerV2-{backbone} and `FreqFusionDecoder`.

Patent notice: the authors of OffSeg permit non-commercial use of the method only.

Args:
{arguments}\
    decoder_channels: width of the features that are classified (Table 7).
    freq_fusion: False for the plain convolutional decoder of Table 6.
    resolution: side in pixels of the square images that the backbone's attention biases
        are for. With `backbone_weights` of ImageNet they start at zero, unless it is
        the classifier's, 224.

{returns}
Example:

>>> model = keras_lrseg.{name}(num_classes=19)
>>> model(images).shape
"""


def _segmenter(variant):
    default_name = f"offseg_{variant.lower()}"

    def build(
        num_classes,
        weights=None,
        backbone_weights=None,
        classifier="offset",
        input_shape=(None, None, 3),
        include_preprocessing=True,
        upsample=True,
        activation=None,
        dropout_rate=0.0,
        drop_path_rate=None,
        decoder_channels=256,
        freq_fusion=True,
        resolution=512,
        reset_head=False,
        name=default_name,
        dtype=None,
    ):
        settings = dict(VARIANTS[BACKBONES[variant]])
        if drop_path_rate is not None:
            settings["drop_path_rate"] = drop_path_rate
        backbone = EfficientFormerV2Backbone(
            **settings, resolution=resolution, input_shape=input_shape, dtype=dtype
        )
        decoder = FreqFusionDecoder(
            DECODER_WIDTHS[variant],
            decoder_channels,
            freq_fusion,
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

    name = f"OffSeg{variant}"
    doc = _DOC.format(
        name=name,
        backbone=BACKBONES[variant],
        arguments=SEGMENTER_ARGUMENTS,
        returns=RETURNS_SEGMENTER,
    )
    return named(build, name, doc)


OffSegT = _segmenter("T")
OffSegB = _segmenter("B")
OffSegL = _segmenter("L")
