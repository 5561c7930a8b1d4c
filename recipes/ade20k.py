"""ADE20K: 20,210 training and 2,000 validation images, 150 classes.

LRFormer, section 4.1 and Tables 3 and 13; OffSeg, section 4.1 and Tables 2 to 5.

    keras-lrseg train recipes/ade20k.py --model LRFormerS \\
        --root ADEChallengeData2016 --backbone-weights lrformer_s_imagenet.pth \\
        --precision mixed_bfloat16 --out runs/ade20k_lrformer_s

Total batch 16 (in the papers 8 GPUs with 2 images each), 160,000 steps: 127 epochs.
AdamW, 6e-5 after 1,500 steps of warm-up, then linearly to 0; decoder and classifier
learn at ten times the rate. Images are resized to a short side of 512 (LRFormer-L: 640)
times 0.5 to 2, then cropped. Every model starts from a backbone trained on ImageNet.

With a query decoder (LRFormer+, Mask2Former): 1e-4 without warm-up, times
(1 - step / steps)^0.9; the backbone learns at a tenth of the rate. The norm of all
gradients together is clipped at 0.1 or 0.01. The largest models see 640×640.

The papers' tables: FLOPs at the size of the crops, OffSeg's of convolutions alone;
validation mIoU in percent.

    model            params  FLOPs  mIoU        model             params  FLOPs  mIoU
    LRFormerT          13 M   17 G  46.7        OffSegT            6.2 M  5.3 G  44.2
    LRFormerS          32 M   40 G  50.0        OffSegB           13.0 M 10.3 G  45.9
    LRFormerB          69 M   75 G  51.0        OffSegL           26.4 M 17.1 G  48.5
    LRFormerL         113 M  183 G  52.6
    LRFormerL/22k     113 M  183 G  54.2
    LRFormerTPlus      31 M   53 G  49.4        LRFormerLPlus      119 M  192 G  55.8
    LRFormerSPlus      48 M   70 G  51.3        LRFormerXLPlus     205 M  365 G  58.1
    LRFormerBPlus      80 M   94 G  53.7

                     params  FLOPs  mIoU        with "+offset"    params  FLOPs  mIoU
    SegFormerB0       3.8 M  8.4 G  37.4                           3.9 M  8.8 G  40.1
    SegFormerB1      13.7 M 15.9 G  41.0                          13.9 M 16.3 G  43.7
    SegFormerB2      24.8 M 25.9 G  45.6                          24.9 M 26.1 G  47.3
    SegFormerB3      44.6 M 42.5 G  47.8                          44.8 M 42.8 G  49.5
    SegFormerB4      61.4 M 59.2 G  48.5                          61.6 M 59.5 G  50.1
    SegFormerB5      82.0 M 75.2 G  49.1                          82.2 M 75.5 G  50.6
    SegNeXtT          4.3 M  6.6 G  41.1                           4.4 M  7.2 G  43.0
    SegNeXtS         13.9 M 15.9 G  44.3                          14.1 M 16.5 G  45.6
    SegNeXtB         27.6 M 34.9 G  48.5                          28.2 M 34.8 G  49.4
    Mask2FormerSwinT 47.4 M         47.7                          47.6 M         50.3

`expected` of the rows has the same mIoU; of the larger Mask2Formers MMSegmentation's,
and none where nobody published one. We have trained none of these to the end.
"""

from dataclasses import replace

from keras_lrseg.evaluation import paper_settings
from keras_lrseg.training import SegmentationRecipe, recipe_rows

LRFORMER = SegmentationRecipe(
    dataset="ade20k",
    initial="ImageNet-1K",
    crop=(512, 512),
    short_side=512,
    batch_size=16,
    steps=160_000,
    epoch_steps=8_000,
    learning_rate=6e-5,
    warmup_steps=1_500,
    weight_decay=0.01,
    head_multiplier=10.0,
    global_clipnorm=35.0,
    test=paper_settings("ade20k", "LRFormer"),
)
LRFORMER_640 = replace(
    LRFORMER,
    crop=(640, 640),
    short_side=640,
    test=paper_settings("ade20k", "LRFormerL"),
)
OFFSEG = replace(
    LRFORMER, global_clipnorm=None, test=paper_settings("ade20k", "OffSeg")
)
SEGFORMER = replace(
    OFFSEG, classifier="pixel", test=paper_settings("ade20k", "SegFormer")
)
SEGNEXT = replace(OFFSEG, test=paper_settings("ade20k", "SegNeXt"))
QUERIES = replace(
    LRFORMER,
    learning_rate=1e-4,
    warmup_steps=0,
    power=0.9,
    weight_decay=0.05,
    head_multiplier=1.0,
    backbone_multiplier=0.1,
    global_clipnorm=None,  # each row has its own
    test=paper_settings("ade20k", "Mask2Former"),
)
QUERIES_640 = replace(
    QUERIES,
    initial="ImageNet-22K",
    crop=(640, 640),
    short_side=640,
    test=paper_settings("ade20k", "Mask2FormerL"),
)

COLUMNS = "drop_path_rate expected"
CLIPPED = "drop_path_rate global_clipnorm expected"
RECIPES = {
    **recipe_rows(
        LRFORMER,
        COLUMNS,
        ("LRFormerT", 0.1, 46.7),
        ("LRFormerS", 0.2, 50.0),
        ("LRFormerB", 0.4, 51.0),
    ),
    **recipe_rows(LRFORMER_640, COLUMNS, ("LRFormerL", 0.6, 52.6)),
    **recipe_rows(
        replace(LRFORMER_640, initial="ImageNet-22K"),
        COLUMNS,
        ("LRFormerL/22k", 0.6, 54.2),
    ),
    # Section 4.4: the ablations, from 100 epochs of ImageNet.
    **recipe_rows(
        replace(LRFORMER, steps=80_000),
        COLUMNS,
        ("LRFormerS/ablation", 0.2, None),
    ),
    **recipe_rows(
        OFFSEG,
        COLUMNS,
        ("OffSegT", 0.0, 44.2),
        ("OffSegB", 0.02, 45.9),
        ("OffSegL", 0.1, 48.5),
    ),
    **recipe_rows(
        SEGFORMER,
        COLUMNS,
        ("SegFormerB0", 0.1, 37.4),
        ("SegFormerB1", 0.1, 41.0),
        ("SegFormerB2", 0.1, 45.6),
        ("SegFormerB3", 0.1, 47.8),
        ("SegFormerB4", 0.1, 48.5),
        ("SegFormerB5", 0.1, 49.1),
    ),
    **recipe_rows(
        replace(OFFSEG, classifier="offset"),
        COLUMNS,
        ("SegFormerB0+offset", 0.1, 40.1),
        ("SegFormerB1+offset", 0.1, 43.7),
        ("SegFormerB2+offset", 0.1, 47.3),
        ("SegFormerB3+offset", 0.1, 49.5),
        ("SegFormerB4+offset", 0.1, 50.1),
        ("SegFormerB5+offset", 0.1, 50.6),
    ),
    **recipe_rows(
        replace(SEGNEXT, classifier="pixel"),
        COLUMNS,
        ("SegNeXtT", 0.1, 41.1),
        ("SegNeXtS", 0.1, 44.3),
        ("SegNeXtB", 0.1, 48.5),
    ),
    **recipe_rows(
        replace(SEGNEXT, classifier="offset"),
        COLUMNS,
        ("SegNeXtT+offset", 0.1, 43.0),
        ("SegNeXtS+offset", 0.1, 45.6),
        ("SegNeXtB+offset", 0.1, 49.4),
    ),
    **recipe_rows(
        QUERIES,
        CLIPPED,
        ("LRFormerTPlus", 0.2, 0.01, 49.4),  # clipped as in the authors' file
        ("LRFormerSPlus", 0.3, 0.1, 51.3),
        ("LRFormerBPlus", 0.4, 0.1, 53.7),
        ("Mask2FormerSwinT", 0.3, 0.01, 47.7),
        ("Mask2FormerSwinS", 0.3, 0.01, 51.2),
    ),
    **recipe_rows(
        QUERIES_640,
        CLIPPED,
        ("LRFormerLPlus", 0.6, 0.1, 55.8),
        ("LRFormerXLPlus", 0.4, 0.1, 58.1),
        ("Mask2FormerSwinB", 0.3, 0.01, 53.9),
        ("Mask2FormerSwinL", 0.3, 0.01, 56.0),
    ),
    **recipe_rows(
        replace(QUERIES, classifier="offset"),
        CLIPPED,
        ("Mask2FormerSwinT+offset", 0.3, 0.01, 50.3),
        ("Mask2FormerSwinS+offset", 0.3, 0.01, None),
    ),
    **recipe_rows(
        replace(QUERIES_640, classifier="offset"),
        CLIPPED,
        ("Mask2FormerSwinB+offset", 0.3, 0.01, None),
        ("Mask2FormerSwinL+offset", 0.3, 0.01, None),
    ),
}
