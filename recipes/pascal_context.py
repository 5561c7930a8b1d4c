"""Pascal Context: 4,998 training and 5,105 validation images, 59 classes.

OffSeg, section 4.1 and Table 3. Its authors publish SegNeXt's configurations for this
data set; the other rows follow them.

    keras-lrseg train recipes/pascal_context.py --model SegNeXtT+offset \\
        --root VOC2010 --backbone-weights mscan_t.pth \\
        --precision mixed_bfloat16 --out runs/pascal_context_segnext_t

Total batch 16 (in the paper 8 GPUs with 2 images each), 80,000 steps: 256 epochs. Crops
of 480×480; tested with a sliding window of 480×480, 320 apart. All else as on ADE20K.

The paper's table: FLOPs at 512×512; validation mIoU in percent, which is `expected` of
the rows.

                     params  FLOPs  mIoU        with "+offset"    params  FLOPs  mIoU
    SegNeXtT          4.3 M  6.6 G  51.2                           4.4 M  6.8 G  53.2
    SegNeXtS         13.9 M 15.9 G  54.2                          14.1 M 16.1 G  55.9
    SegNeXtB         27.6 M 34.9 G  57.0                          28.2 M 34.1 G  58.0

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
        "drop_path_rate expected",
        ("OffSegT", 0.0, None),
        ("OffSegB", 0.02, None),
        ("OffSegL", 0.1, None),
    ),
    **recipe_rows(
        replace(BASE, classifier="pixel"),
        "drop_path_rate expected",
        ("SegFormerB0", 0.1, None),
        ("SegFormerB1", 0.1, None),
        ("SegFormerB2", 0.1, None),
        ("SegFormerB3", 0.1, None),
        ("SegFormerB4", 0.1, None),
        ("SegFormerB5", 0.1, None),
        ("SegNeXtT", 0.1, 51.2),
        ("SegNeXtS", 0.1, 54.2),
        ("SegNeXtB", 0.1, 57.0),
    ),
    **recipe_rows(
        replace(BASE, classifier="offset"),
        "drop_path_rate expected",
        ("SegFormerB0+offset", 0.1, None),
        ("SegFormerB1+offset", 0.1, None),
        ("SegFormerB2+offset", 0.1, None),
        ("SegFormerB3+offset", 0.1, None),
        ("SegFormerB4+offset", 0.1, None),
        ("SegFormerB5+offset", 0.1, None),
        ("SegNeXtT+offset", 0.1, 53.2),
        ("SegNeXtS+offset", 0.1, 55.9),
        ("SegNeXtB+offset", 0.1, 58.0),
    ),
}
