"""Pascal Context: 4,998 training and 5,105 validation images, 59 classes.

OffSeg, section 4.1. Its authors publish SegNeXt's configurations for this data set; the
other rows follow them.

    keras-lrseg train recipes/pascal_context.py --model SegNeXtT+offset \\
        --root VOC2010 --backbone-weights mscan_t.pth \\
        --precision mixed_bfloat16 --out runs/pascal_context_segnext_t

Total batch 16 (in the paper 8 GPUs with 2 images each), 80,000 steps: 256 epochs. Crops
of 480×480; tested with a sliding window of 480×480, 320 apart. All else as on ADE20K.

We have trained none of these to the end.
"""

from dataclasses import replace

from keras_lrseg.evaluation import paper_settings
from keras_lrseg.training import SegmentationRecipe, recipe_rows

BASE = SegmentationRecipe(
    dataset="pascal_context",
    initial="ImageNet-1K",
    crop=(480, 480),
    short_side=390,  # the authors' longest side of 520, for the usual 500×375 pixels
    batch_size=16,
    steps=80_000,
    epoch_steps=8_000,
    learning_rate=6e-5,
    warmup_steps=1_500,
    weight_decay=0.01,
    head_multiplier=10.0,
    test=paper_settings("pascal_context", "OffSeg"),
)

RECIPES = {
    **recipe_rows(
        BASE,
        "drop_path_rate",
        ("OffSegT", 0.0),
        ("OffSegB", 0.02),
        ("OffSegL", 0.1),
    ),
    **recipe_rows(
        replace(BASE, classifier="pixel"),
        "drop_path_rate",
        ("SegFormerB0", 0.1),
        ("SegFormerB1", 0.1),
        ("SegFormerB2", 0.1),
        ("SegFormerB3", 0.1),
        ("SegFormerB4", 0.1),
        ("SegFormerB5", 0.1),
        ("SegNeXtT", 0.1),
        ("SegNeXtS", 0.1),
        ("SegNeXtB", 0.1),
    ),
    **recipe_rows(
        replace(BASE, classifier="offset"),
        "drop_path_rate",
        ("SegFormerB0+offset", 0.1),
        ("SegFormerB1+offset", 0.1),
        ("SegFormerB2+offset", 0.1),
        ("SegFormerB3+offset", 0.1),
        ("SegFormerB4+offset", 0.1),
        ("SegFormerB5+offset", 0.1),
        ("SegNeXtT+offset", 0.1),
        ("SegNeXtS+offset", 0.1),
        ("SegNeXtB+offset", 0.1),
    ),
}
