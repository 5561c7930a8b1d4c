"""Cityscapes: 2,975 training and 500 validation images of 2048×1024, 19 classes.

LRFormer, section 4.1 and Table 5; OffSeg, section 4.1 and Tables 2 and 3.

    keras-lrseg train recipes/cityscapes.py --model LRFormerT \\
        --root cityscapes --backbone-weights lrformer_t_imagenet.pth \\
        --precision mixed_bfloat16 --out runs/cityscapes_lrformer_t

Total batch 8 (in the papers 8 GPUs with 1 image each), 160,000 steps: 430 epochs. Crops
of 1024×1024 from images at their own size times 0.5 to 2; tested with a sliding window
of 1024×1024. All else as on ADE20K.

The papers' tables: FLOPs at 1024×2048, OffSeg's of convolutions alone; validation mIoU
in percent.

    model            params  FLOPs  mIoU        model             params  FLOPs  mIoU
    LRFormerT          13 M  122 G  80.7        OffSegT            6.2 M  44.8 G  78.9
    LRFormerS          32 M  295 G  81.9        OffSegB           13.0 M  86.5 G  80.5
    LRFormerB          67 M  555 G  83.0        OffSegL           26.4 M 143.4 G  81.6
    LRFormerL         111 M  908 G  83.2

                     params   FLOPs  mIoU       with "+offset"    params   FLOPs  mIoU
    SegNeXtT          4.3 M  50.5 G  79.8                          4.4 M  53.1 G  80.0
    SegNeXtS         13.9 M 124.6 G  81.3                         14.1 M 127.2 G  81.7
    SegNeXtB         27.6 M 275.7 G  82.6                         28.2 M 269.6 G  82.8
    SegFormerB0       3.8 M 125.5 G  76.2
    SegFormerB1      13.7 M 243.7 G  78.5
    SegFormerB2      27.5 M 717.1 G  81.0

`expected` of the rows has the same mIoU, and none where nobody published one; those of
SegFormer are of its own decoder, of 768 channels from B2 on. We have trained none of
these to the end.
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
        "drop_path_rate expected",
        ("OffSegT", 0.0, 78.9),
        ("OffSegB", 0.02, 80.5),
        ("OffSegL", 0.1, 81.6),
    ),
    **recipe_rows(
        replace(OFFSEG, classifier="pixel"),
        "drop_path_rate expected",
        ("SegFormerB0", 0.1, 76.2),
        ("SegFormerB1", 0.1, 78.5),
        ("SegFormerB2", 0.1, 81.0),
        ("SegFormerB3", 0.1, None),
        ("SegFormerB4", 0.1, None),
        ("SegFormerB5", 0.1, None),
        ("SegNeXtT", 0.1, 79.8),
        ("SegNeXtS", 0.1, 81.3),
        ("SegNeXtB", 0.1, 82.6),
    ),
    **recipe_rows(
        replace(OFFSEG, classifier="offset"),
        "drop_path_rate expected",
        ("SegFormerB0+offset", 0.1, None),
        ("SegFormerB1+offset", 0.1, None),
        ("SegFormerB2+offset", 0.1, None),
        ("SegFormerB3+offset", 0.1, None),
        ("SegFormerB4+offset", 0.1, None),
        ("SegFormerB5+offset", 0.1, None),
        ("SegNeXtT+offset", 0.1, 80.0),
        ("SegNeXtS+offset", 0.1, 81.7),
        ("SegNeXtB+offset", 0.1, 82.8),
    ),
}
