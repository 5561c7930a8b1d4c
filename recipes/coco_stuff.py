"""COCO-Stuff 164k: 118,287 training and 5,000 validation images, 171 classes.

LRFormer, section 4.1 and Table 4; OffSeg, section 4.1 and Tables 2 to 4.

    keras-lrseg train recipes/coco_stuff.py --model OffSegT \\
        --root coco_stuff164k --backbone-weights eformer_s1_450.pth \\
        --precision mixed_bfloat16 --out runs/coco_stuff_offseg_t

Total batch 16 (in the papers 8 GPUs with 2 images each), 80,000 steps: 11 epochs. All
else as on ADE20K; LRFormer-L is cropped to 512 here.

The papers' tables: FLOPs at 512×512, OffSeg's of convolutions alone; validation mIoU in
percent, which is `expected` of the rows.

    model            params  FLOPs  mIoU        model             params  FLOPs  mIoU
    LRFormerT          13 M   17 G  43.9        OffSegT            6.2 M  5.3 G  41.9
    LRFormerS          32 M   40 G  46.4        OffSegB           13.0 M 10.3 G  44.3
    LRFormerB          69 M   75 G  47.2        OffSegL           26.4 M 17.1 G  46.0
    LRFormerL         113 M  122 G  47.9

                     params  FLOPs  mIoU        with "+offset"    params  FLOPs  mIoU
    SegFormerB0       3.8 M  8.6 G  35.6                           3.9 M  8.9 G  38.3
    SegFormerB1      13.7 M 16.1 G  40.2                          13.9 M 16.4 G  41.9
    SegFormerB2      24.8 M 26.0 G  44.6                          24.9 M 26.2 G  45.2
    SegFormerB3      44.6 M 42.6 G  45.5                          44.8 M 42.9 G  46.3
    SegFormerB4      61.4 M 59.3 G  46.5                          61.6 M 59.6 G  47.0
    SegFormerB5      82.0 M 75.3 G  46.7                          82.2 M 75.5 G  47.2
    SegNeXtT          4.3 M  6.6 G  38.7                           4.4 M  7.3 G  40.0
    SegNeXtS         13.9 M 15.9 G  42.2                          14.1 M 16.6 G  43.5
    SegNeXtB         27.6 M 34.9 G  45.8                          28.2 M 35.0 G  45.8

We have trained none of these to the end.
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
        "drop_path_rate expected",
        ("OffSegT", 0.0, 41.9),
        ("OffSegB", 0.02, 44.3),
        ("OffSegL", 0.1, 46.0),
    ),
    **recipe_rows(
        replace(
            OFFSEG, classifier="pixel", test=paper_settings("coco_stuff", "SegFormer")
        ),
        "drop_path_rate expected",
        ("SegFormerB0", 0.1, 35.6),
        ("SegFormerB1", 0.1, 40.2),
        ("SegFormerB2", 0.1, 44.6),
        ("SegFormerB3", 0.1, 45.5),
        ("SegFormerB4", 0.1, 46.5),
        ("SegFormerB5", 0.1, 46.7),
    ),
    **recipe_rows(
        replace(OFFSEG, classifier="offset"),
        "drop_path_rate expected",
        ("SegFormerB0+offset", 0.1, 38.3),
        ("SegFormerB1+offset", 0.1, 41.9),
        ("SegFormerB2+offset", 0.1, 45.2),
        ("SegFormerB3+offset", 0.1, 46.3),
        ("SegFormerB4+offset", 0.1, 47.0),
        ("SegFormerB5+offset", 0.1, 47.2),
    ),
    **recipe_rows(
        replace(SEGNEXT, classifier="pixel"),
        "drop_path_rate expected",
        ("SegNeXtT", 0.1, 38.7),
        ("SegNeXtS", 0.1, 42.2),
        ("SegNeXtB", 0.1, 45.8),
    ),
    **recipe_rows(
        replace(SEGNEXT, classifier="offset"),
        "drop_path_rate expected",
        ("SegNeXtT+offset", 0.1, 40.0),
        ("SegNeXtS+offset", 0.1, 43.5),
        ("SegNeXtB+offset", 0.1, 45.8),
    ),
}
