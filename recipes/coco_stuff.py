"""COCO-Stuff 164k: 118,287 training and 5,000 validation images, 171 classes.

LRFormer, section 4.1 and Table 4; OffSeg, section 4.1.

    keras-lrseg train recipes/coco_stuff.py --model OffSegT \\
        --root coco_stuff164k --backbone-weights eformer_s1_450.pth \\
        --precision mixed_bfloat16 --out runs/coco_stuff_offseg_t

Total batch 16 (in the papers 8 GPUs with 2 images each), 80,000 steps: 11 epochs. All
else as on ADE20K; LRFormer-L is cropped to 512 here.

`expected` is the published validation mIoU in percent, where we know it. We have
trained none of these to the end.
"""

from dataclasses import replace

from keras_lrseg.evaluation import paper_settings
from keras_lrseg.training import SegmentationRecipe, recipe_rows

LRFORMER = SegmentationRecipe(
    dataset="coco_stuff",
    initial="ImageNet-1K",
    crop=(512, 512),
    short_side=512,
    batch_size=16,
    steps=80_000,
    epoch_steps=8_000,
    learning_rate=6e-5,
    warmup_steps=1_500,
    weight_decay=0.01,
    head_multiplier=10.0,
    global_clipnorm=35.0,
    test=paper_settings("coco_stuff", "LRFormer"),
)
OFFSEG = replace(
    LRFORMER, global_clipnorm=None, test=paper_settings("coco_stuff", "OffSeg")
)
SEGNEXT = replace(OFFSEG, test=paper_settings("coco_stuff", "SegNeXt"))

RECIPES = {
    **recipe_rows(
        LRFORMER,
        "drop_path_rate expected",
        ("LRFormerT", 0.1, 43.9),
        ("LRFormerS", 0.2, 46.4),
        ("LRFormerB", 0.4, 47.2),
        ("LRFormerL", 0.6, 47.9),
    ),
    **recipe_rows(
        OFFSEG,
        "drop_path_rate",
        ("OffSegT", 0.0),
        ("OffSegB", 0.02),
        ("OffSegL", 0.1),
    ),
    **recipe_rows(
        replace(
            OFFSEG, classifier="pixel", test=paper_settings("coco_stuff", "SegFormer")
        ),
        "drop_path_rate",
        ("SegFormerB0", 0.1),
        ("SegFormerB1", 0.1),
        ("SegFormerB2", 0.1),
        ("SegFormerB3", 0.1),
        ("SegFormerB4", 0.1),
        ("SegFormerB5", 0.1),
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
    ),
    **recipe_rows(
        replace(SEGNEXT, classifier="pixel"),
        "drop_path_rate",
        ("SegNeXtT", 0.1),
        ("SegNeXtS", 0.1),
        ("SegNeXtB", 0.1),
    ),
    **recipe_rows(
        replace(SEGNEXT, classifier="offset"),
        "drop_path_rate",
        ("SegNeXtT+offset", 0.1),
        ("SegNeXtS+offset", 0.1),
        ("SegNeXtB+offset", 0.1),
    ),
}
