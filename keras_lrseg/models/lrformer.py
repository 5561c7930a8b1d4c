"""LRFormer: low-resolution self-attention for semantic segmentation.

Paper: Wu et al., "Low-Resolution Self-Attention for Semantic Segmentation", TPAMI
2025. Backbones in Table 2, decoder in section 3.3 with the widths below.
"""

from keras_lrseg.backbones.lrformer import VARIANTS, LRFormerBackbone
from keras_lrseg.checkpoints import load_backbone_weights, load_weights
from keras_lrseg.decoders import LRDecoder
from keras_lrseg.models.image_classifier import ImageClassifier
from keras_lrseg.models.variants import (
    RETURNS_SEGMENTER,
    SEGMENTER_ARGUMENTS,
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

The sibling that ImageNet trains (Table 6), with a pool size of 7 at 224×224.

Args:
    num_classes: number of labels.
    weights: None for random weights, or a `.keras` or `.weights.h5` file.
    backbone_weights: the same, or a published PyTorch checkpoint, for the backbone.
    input_shape: (height, width, 3); None for any size from 32.
    include_preprocessing: take RGB in 0..255 and normalise it in the model.
    activation: None for logits, "softmax" for probabilities.
    drop_path_rate: of the last block.
    pool_size: query cells of the attention; 12 at 384×384.
    name: of the model.
    dtype: dtype policy, for example "mixed_bfloat16".

Returns:
    An `ImageClassifier`: images (B, H, W, 3) to float32 logits (B, num_classes).
"""


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
            decoder_channels or DECODER_CHANNELS[variant], name="decoder", dtype=dtype
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

    return _named(build, f"LRFormer{variant}", _SEGMENTER_DOC, variant)


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
        name=default_name,
        dtype=None,
    ):
        settings = {**VARIANTS[variant], "drop_path_rate": drop_path_rate}
        model = ImageClassifier(
            backbone=LRFormerBackbone(
                **settings, pool_size=pool_size, input_shape=input_shape, dtype=dtype
            ),
            num_classes=num_classes,
            input_shape=input_shape,
            include_preprocessing=include_preprocessing,
            activation=activation,
            name=name,
            dtype=dtype,
        )
        if backbone_weights is not None:
            load_backbone_weights(model, backbone_weights)
        if weights is not None:
            load_weights(model, weights)
        return model

    return _named(build, f"LRFormer{variant}Classifier", _CLASSIFIER_DOC, variant)


def _named(build, name, doc, variant):
    doc = doc.format(
        name=name,
        variant=variant,
        channels=DECODER_CHANNELS[variant],
        arguments=SEGMENTER_ARGUMENTS,
        returns=RETURNS_SEGMENTER,
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
