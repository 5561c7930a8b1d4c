"""Classification layers of the published checkpoints: their names, kinds and classes.

A checkpoint holds one of three `KINDS` of models, which its classification layer tells:
segmenters of pixels or masks (mmsegmentation), or an image classifier.
"""

from keras_lrseg.checkpoints.convert import Names, State

PIXEL = Names((r"^", r"conv_seg/"))

OFFSET = Names(
    (r"^class_representations$", r"offset_learning/cls_repr"),
    (r"^class_projection/", r"offset_learning/cls_offset_proj/"),
    (r"^feature_projection/", r"offset_learning/feat_offset_proj/"),
    (r"^norm/", r"offset_learning/mask_norm/"),
    unused=(r"^conv_seg\.",),  # made by the authors' base class, never called
)

# What a kind is called, and how the keys of its classification layer start.
KINDS = {
    "pixels": (
        "a segmenter that classifies pixels, such as LRFormerT",
        ("decode_head.conv_seg.", "decode_head.offset_learning."),
    ),
    "masks": (
        "a segmenter that classifies masks, such as LRFormerTPlus",
        ("decode_head.cls_embed.",),
    ),
    "images": ("an image classifier", ("classifier.",)),
}


def kind_of(model) -> str | None:
    """Return the kind of one of this library's models; None for any other."""
    parts = getattr(model, "parts", ())
    names = {"decoder": "pixels", "mask_decoder": "masks", "head": "images"}
    return next((kind for name, kind in names.items() if name in parts), None)


def settings_of(state: State) -> tuple[str | None, dict]:
    """Return the kind of a checkpoint's model and the arguments that build it.

    Those are "num_classes", of segmenters "classifier", of masks "num_queries". The
    kind is None if there is no classification layer.
    """
    offset = any(key.startswith("decode_head.offset_learning.") for key in state)
    segmenter = {"classifier": "offset" if offset else "pixel"}
    if "decode_head.cls_embed.bias" in state:
        classes = len(state["decode_head.cls_embed.bias"]) - 1  # less "no object"
        queries = len(state.get("decode_head.query_feat.weight", ()))
        return "masks", {
            "num_classes": classes,
            "num_queries": queries,
            **segmenter,
        }
    for kind, key, others in (
        ("pixels", "decode_head.offset_learning.mask_norm.bias", segmenter),
        ("pixels", "decode_head.conv_seg.bias", segmenter),
        ("images", "head.bias", {}),
    ):
        if key in state:
            return kind, {"num_classes": len(state[key]), **others}
    return None, {}
