"""SegFormer, and SegFormer with Offset Learning.

Papers: Xie et al., "SegFormer: Simple and Efficient Design for Semantic Segmentation
with Transformers", NeurIPS 2021; OffSeg, ICCV 2025, Table 4. The decoder is
MMSegmentation's, which the authors of OffSeg start from: batch norm and ReLU on every
level, 256 channels in all variants.
"""

from keras_lrseg.backbones.mix_transformer import VARIANTS, MixTransformerBackbone
from keras_lrseg.decoders import SegFormerDecoder
from keras_lrseg.models.classifiers import is_offset
from keras_lrseg.models.variants import (
    RETURNS_SEGMENTER,
    SEGMENTER_ARGUMENTS,
    make_segmenter,
    named,
)

_DOC = """{name}: SegFormer with the Mix Transformer {variant}.

`classifier="offset"` is SegFormer with Offset Learning as its authors have it: features
are max-pooled to stride 8, and nothing is dropped. Patent notice: the authors of OffSeg
permit non-commercial use of the method only.

Args:
{arguments}\
    decoder_channels: of the decoder; the authors of SegFormer take 768 from B2 on.
    epsilon: of the backbone's layer norms; 1e-5 for Hugging Face's checkpoints.

`dropout_rate=None` is 0.1, with `classifier="offset"` 0.

{returns}
Example:

>>> model = keras_lrseg.{name}(num_classes=19)
>>> model(images).shape
"""


def _segmenter(variant):
    default_name = f"segformer_{variant.lower()}"

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
        decoder_channels=256,
        epsilon=1e-6,
        reset_head=False,
        name=default_name,
        dtype=None,
    ):
        offset = is_offset(classifier)
        if dropout_rate is None:
            dropout_rate = 0.0 if offset else 0.1
        settings = dict(VARIANTS[variant])
        if drop_path_rate is not None:
            settings["drop_path_rate"] = drop_path_rate
        backbone = MixTransformerBackbone(
            **settings, epsilon=epsilon, input_shape=input_shape, dtype=dtype
        )
        decoder = SegFormerDecoder(
            decoder_channels, pool=offset, name="decoder", dtype=dtype
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

    name = f"SegFormer{variant}"
    doc = _DOC.format(
        name=name,
        variant=variant,
        arguments=SEGMENTER_ARGUMENTS,
        returns=RETURNS_SEGMENTER,
    )
    return named(build, name, doc)


SegFormerB0 = _segmenter("B0")
SegFormerB1 = _segmenter("B1")
SegFormerB2 = _segmenter("B2")
SegFormerB3 = _segmenter("B3")
SegFormerB4 = _segmenter("B4")
SegFormerB5 = _segmenter("B5")
