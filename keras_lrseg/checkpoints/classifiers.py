"""Names of the classification layers of the published checkpoints (mmsegmentation)."""

from keras_lrseg.checkpoints.convert import Names

PIXEL = Names((r"^", r"conv_seg/"))

OFFSET = Names(
    (r"^class_representations$", r"offset_learning/cls_repr"),
    (r"^class_projection/", r"offset_learning/cls_offset_proj/"),
    (r"^feature_projection/", r"offset_learning/feat_offset_proj/"),
    (r"^norm/", r"offset_learning/mask_norm/"),
    unused=(r"^conv_seg\.",),  # made by the authors' base class, never called
)
