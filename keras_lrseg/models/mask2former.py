"""Mask2Former with Swin, and Mask2Former with Offset Learning.

Papers: Cheng et al., "Masked-attention Mask Transformer for Universal Image
Segmentation", CVPR 2022; OffSeg, ICCV 2025, Table 5.

Deviations: images are not padded to multiples of 32.
"""

from keras_lrseg.backbones.swin import VARIANTS, SwinBackbone
from keras_lrseg.models.variants import (
    MASK_SEGMENTER_ARGUMENTS,
    RETURNS_MASK_SEGMENTER,
    make_mask_segmenter,
    named,
)

_DOC = """{name}: Mask2Former with the backbone Swin-{variant}.

Args:
{arguments}
As `weights` serve MMSegmentation's checkpoints, with and without Offset Learning, and
Hugging Face's of semantic segmentation.

Patent notice: the authors of OffSeg permit non-commercial use of Offset Learning only.

{returns}
Example:

>>> model = keras_lrseg.{name}(num_classes=150, classifier="offset")
>>> model(images).shape
"""


def _segmenter(variant):
    default_name = f"mask2former_swin_{variant.lower()}"

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
        reset_head=False,
        name=default_name,
        dtype=None,
    ):
        settings = dict(VARIANTS[variant])
        if drop_path_rate is not None:
            settings["drop_path_rate"] = drop_path_rate
        return make_mask_segmenter(
            SwinBackbone(**settings, input_shape=input_shape, dtype=dtype),
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

    name = f"Mask2FormerSwin{variant}"
    doc = _DOC.format(
        name=name,
        variant=variant,
        arguments=MASK_SEGMENTER_ARGUMENTS,
        returns=RETURNS_MASK_SEGMENTER,
    )
    return named(build, name, doc)


Mask2FormerSwinT = _segmenter("T")
Mask2FormerSwinS = _segmenter("S")
Mask2FormerSwinB = _segmenter("B")
Mask2FormerSwinL = _segmenter("L")
