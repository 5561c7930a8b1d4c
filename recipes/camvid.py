"""CamVid: 367 training and 101 validation street scenes of 480×360, 11 classes.

From random weights, which the papers never do: a small data set that one GPU trains on
in minutes.

    keras-lrseg train recipes/camvid.py --model LRFormerT --root camvid \\
        --precision mixed_bfloat16 --out runs/camvid_lrformer_t
"""

from keras_lrseg.training import SegmentationRecipe, recipe_rows

SCRATCH = SegmentationRecipe(
    dataset="camvid",
    crop=(352, 480),
    scale=(0.5, 2.0),
    batch_size=16,
    steps=4_000,
    epoch_steps=500,
    learning_rate=1e-3,
    warmup_steps=200,
    weight_decay=0.05,
    global_clipnorm=5.0,
)

RECIPES = recipe_rows(
    SCRATCH,
    "drop_path_rate",
    ("LRFormerT", 0.1),
    ("OffSegT", 0.0),
)
