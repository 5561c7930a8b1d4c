"""Cityscapes: 2,975 training and 500 validation images of 2048×1024, 19 classes.

LRFormer, section 4.1 and Table 5; OffSeg, section 4.1.

    keras-lrseg train recipes/cityscapes.py --model LRFormerT \\
        --root cityscapes --backbone-weights lrformer_t_imagenet.pth \\
        --precision mixed_bfloat16 --out runs/cityscapes_lrformer_t

Total batch 8 (in the papers 8 GPUs with 1 image each), 160,000 steps: 430 epochs. Crops
of 1024×1024 from images at their own size times 0.5 to 2; tested with a sliding window
of 1024×1024. All else as on ADE20K.

`expected` is the published validation mIoU in percent, where we know it. We have
trained none of these to the end.
"""

from dataclasses import replace

from keras_lrseg.evaluation import paper_settings
from keras_lrseg.training import SegmentationRecipe, recipe_rows

LRFORMER = SegmentationRecipe(
    dataset="cityscapes",
    initial="ImageNet-1K",
    crop=(1024, 1024),
    batch_size=8,
    steps=160_000,
    epoch_steps=8_000,
    learning_rate=6e-5,
    warmup_steps=1_500,
    weight_decay=0.01,
    head_multiplier=10.0,
    global_clipnorm=35.0,
    test=paper_settings("cityscapes", "LRFormer"),
)
OFFSEG = replace(
    LRFORMER, global_clipnorm=None, test=paper_settings("cityscapes", "OffSeg")
)

RECIPES = {
    **recipe_rows(
        LRFORMER,
        "drop_path_rate expected",
        ("LRFormerT", 0.1, 80.7),
        ("LRFormerS", 0.2, 81.9),
        ("LRFormerB", 0.4, 83.0),
        ("LRFormerL", 0.6, 83.2),
    ),
    **recipe_rows(
        OFFSEG,
        "drop_path_rate",
        ("OffSegT", 0.0),
        ("OffSegB", 0.02),
        ("OffSegL", 0.1),
    ),
    **recipe_rows(
        replace(OFFSEG, classifier="pixel"),
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
        replace(OFFSEG, classifier="offset"),
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
