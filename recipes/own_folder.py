"""Images and masks of your own, from a backbone that ImageNet or a data set trained.

    keras-lrseg train recipes/own_folder.py --model LRFormerS \\
        --images street/images --masks street/masks --classes street/classes.txt \\
        --val-images street/val_images --val-masks street/val_masks \\
        --backbone-weights lrformer_s_imagenet.pth --out runs/street

The papers' numbers for ADE20K, shorter: 40,000 steps of 16 crops of 512×512, from
images of their own size times 0.5 to 2 (`--set short_side=512` resizes them first).
Where a batch does not fit, `--set accumulation_steps=4` divides it; `--dry-run`
estimates. Rows "…/scratch" start from random weights at a higher rate; expect less of
them.
"""

from dataclasses import replace

from keras_lrseg.training import SegmentationRecipe, recipe_rows

LRFORMER = SegmentationRecipe(
    dataset="folders",
    initial="ImageNet-1K",
    crop=(512, 512),
    batch_size=16,
    steps=40_000,
    epoch_steps=2_000,
    learning_rate=6e-5,
    warmup_steps=1_500,
    weight_decay=0.01,
    head_multiplier=10.0,
    global_clipnorm=35.0,
)
OTHERS = replace(LRFORMER, global_clipnorm=None)
SCRATCH = replace(
    LRFORMER, initial=None, learning_rate=1e-3, head_multiplier=1.0, weight_decay=0.05
)

RECIPES = {
    **recipe_rows(
        LRFORMER,
        "drop_path_rate",
        ("LRFormerT", 0.1),
        ("LRFormerS", 0.2),
        ("LRFormerB", 0.4),
        ("LRFormerL", 0.6),
    ),
    **recipe_rows(
        OTHERS,
        "drop_path_rate",
        ("OffSegT", 0.0),
        ("OffSegB", 0.02),
        ("OffSegL", 0.1),
    ),
    **recipe_rows(
        replace(OTHERS, classifier="pixel"),
        "drop_path_rate",
        *((f"SegFormerB{i}", 0.1) for i in range(6)),
        *((f"SegNeXt{size}", 0.1) for size in "TSB"),
    ),
    **recipe_rows(
        replace(OTHERS, classifier="offset"),
        "drop_path_rate",
        *((f"SegFormerB{i}+offset", 0.1) for i in range(6)),
        *((f"SegNeXt{size}+offset", 0.1) for size in "TSB"),
    ),
    **recipe_rows(
        SCRATCH,
        "drop_path_rate",
        ("LRFormerT/scratch", 0.1),
        ("OffSegT/scratch", 0.0),
        ("SegFormerB0/scratch", 0.1),
        ("SegNeXtT/scratch", 0.1),
    ),
}
