"""LRFormer: low-resolution self-attention for semantic segmentation.

Paper: Wu et al., "Low-Resolution Self-Attention for Semantic Segmentation", TPAMI
2025. Backbones in Table 2, decoder in section 3.3 with the widths below.
"""

from keras_lrseg.backbones.lrformer import VARIANTS, LRFormerBackbone
from keras_lrseg.decoders import LRDecoder
from keras_lrseg.layers import PointwiseConvolution
from keras_lrseg.models.variants import (
    CLASSIFIER_ARGUMENTS,
    RETURNS_CLASSIFIER,
    RETURNS_SEGMENTER,
    SEGMENTER_ARGUMENTS,
    make_image_classifier,
    make_segmenter,
    named,
)

DECODER_CHANNELS = {"T": 256, "S": 384, "B": 512, "L": 640, "XL": 768}

_SEGMENTER_DOC = """{name}: LRFormer with the {variant} backbone and `LRDecoder`.

Args:
{arguments}\
    decoder_channels: None for {channels}, the value of this variant (Table 11).
    pool_size: query cells of the backbone's attention (Table 7).
    depthwise, feed_forward_depthwise: depthwise convolutions in front of the
        attention and in the feed-forward (Table 9).

{returns}
Example:

>>> model = keras_lrseg.{name}(num_classes=19)
>>> model(images).shape
"""

_CLASSIFIER_DOC = """{name}: LRFormer's {variant} backbone as an image classifier.

The sibling that ImageNet trains (Table 6), with a pool size of 7 at 224×224. The
authors' classification code is not published: a 1280-wide layer in front of the
classifier makes all five parameter counts of the table.

Args:
{arguments}\
    pool_size: query cells of the attention; 12 at 384×384.

{returns}"""


def _segmenter(variant):
    default_name = f"lrformer_{variant.lower()}"

    def build(
        num_classes,
        weights=None,
        backbone_weights=None,
        classifier="pixel",
        input_shape=(None, None, 3),
        include_preprocessing=True,
        upsample=True,
        activation=None,
        dropout_rate=0.1,
        drop_path_rate=None,
        decoder_channels=None,
        pool_size=16,
        depthwise=True,
        feed_forward_depthwise=True,
        reset_head=False,
        name=default_name,
        dtype=None,
    ):
        settings = dict(VARIANTS[variant])
        if drop_path_rate is not None:
            settings["drop_path_rate"] = drop_path_rate
        backbone = LRFormerBackbone(
            **settings,
            pool_size=pool_size,
            depthwise=depthwise,
            feed_forward_depthwise=feed_forward_depthwise,
            input_shape=input_shape,
            dtype=dtype,
        )
        decoder = LRDecoder(
            DECODER_CHANNELS[variant] if decoder_channels is None else decoder_channels,
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

    name = f"LRFormer{variant}"
    doc = _SEGMENTER_DOC.format(
        name=name,
        variant=variant,
        channels=DECODER_CHANNELS[variant],
        arguments=SEGMENTER_ARGUMENTS,
        returns=RETURNS_SEGMENTER,
    )
    return named(build, name, doc)


def _classifier(variant):
    default_name = f"lrformer_{variant.lower()}_classifier"

    def build(
        num_classes=1000,
        weights=None,
        backbone_weights=None,
        input_shape=(None, None, 3),
        include_preprocessing=True,
        activation=None,
        drop_path_rate=0.1,
        pool_size=7,
        reset_head=False,
        name=default_name,
        dtype=None,
    ):
        settings = {**VARIANTS[variant], "drop_path_rate": drop_path_rate}
        return make_image_classifier(
            LRFormerBackbone(
                **settings, pool_size=pool_size, input_shape=input_shape, dtype=dtype
            ),
            PointwiseConvolution(1280, activation="gelu", name="head", dtype=dtype),
            num_classes,
            weights=weights,
            backbone_weights=backbone_weights,
            reset_head=reset_head,
            input_shape=input_shape,
            include_preprocessing=include_preprocessing,
            activation=activation,
            name=name,
            dtype=dtype,
        )

    name = f"LRFormer{variant}Classifier"
    doc = _CLASSIFIER_DOC.format(
        name=name,
        variant=variant,
        arguments=CLASSIFIER_ARGUMENTS,
        returns=RETURNS_CLASSIFIER,
    )
    return named(build, name, doc)


LRFormerT = _segmenter("T")
LRFormerS = _segmenter("S")
LRFormerB = _segmenter("B")
LRFormerL = _segmenter("L")
LRFormerXL = _segmenter("XL")

LRFormerTClassifier = _classifier("T")
LRFormerSClassifier = _classifier("S")
LRFormerBClassifier = _classifier("B")
LRFormerLClassifier = _classifier("L")
LRFormerXLClassifier = _classifier("XL")
