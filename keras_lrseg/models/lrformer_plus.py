"""LRFormer+: LRFormer's backbone with Mask2Former's decoders.

Paper: Wu et al., "Low-Resolution Self-Attention for Semantic Segmentation", TPAMI
2025, Table 13, the variants with a query decoder.
"""

from keras_lrseg.backbones.lrformer import VARIANTS, LRFormerBackbone
from keras_lrseg.models.variants import (
    MASK_SEGMENTER_ARGUMENTS,
    RETURNS_MASK_SEGMENTER,
    make_mask_segmenter,
    named,
)

# As the authors train them on ADE20K, where the other variants have others.
DROP_PATH_RATES = {"T": 0.2, "S": 0.3, "B": 0.4, "L": 0.6, "XL": 0.4}

_DOC = """{name}: LRFormer+, the {variant} backbone with Mask2Former's decoders.

Patent notice: the authors of OffSeg permit non-commercial use of Offset Learning only.

Args:
{arguments}\
    pool_size: query cells of the backbone's attention (Table 7).

{returns}
Example:

>>> model = keras_lrseg.{name}(num_classes=150)
>>> model(images).shape
"""


def _segmenter(variant):
    default_name = f"lrformer_{variant.lower()}_plus"

    def build(
        num_classes,
        weights=None,
        backbone_weights=None,
        classifier="pixel",
        input_shape=(None, None, 3),
        include_preprocessing=True,
        upsample=True,
        activation=None,
        drop_path_rate=None,
        num_queries=100,
        pool_size=16,
        reset_head=False,
        name=default_name,
        dtype=None,
    ):
        settings = dict(VARIANTS[variant])
        settings["drop_path_rate"] = (
            DROP_PATH_RATES[variant] if drop_path_rate is None else drop_path_rate
        )
        return make_mask_segmenter(
            LRFormerBackbone(
                **settings, pool_size=pool_size, input_shape=input_shape, dtype=dtype
            ),
            num_classes,
            classifier,
            num_queries,
            weights=weights,
            backbone_weights=backbone_weights,
            reset_head=reset_head,
            input_shape=input_shape,
            include_preprocessing=include_preprocessing,
            upsample=upsample,
            activation=activation,
            name=name,
            dtype=dtype,
        )

    name = f"LRFormer{variant}Plus"
    doc = _DOC.format(
        name=name,
        variant=variant,
        arguments=MASK_SEGMENTER_ARGUMENTS,
        returns=RETURNS_MASK_SEGMENTER,
    )
    return named(build, name, doc)


LRFormerTPlus = _segmenter("T")
LRFormerSPlus = _segmenter("S")
LRFormerBPlus = _segmenter("B")
LRFormerLPlus = _segmenter("L")
LRFormerXLPlus = _segmenter("XL")
