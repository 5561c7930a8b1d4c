"""CamVid: 367 training and 101 validation street scenes of 480×360, 11 classes.

From random weights, which the papers never do, on a CPU, in minutes:

    KERAS_BACKEND=torch keras-lrseg train recipes/camvid.py --model OffSegT \\
        --root camvid --out runs/camvid_offseg_t

Reached on all 101 validation images, scored at 480×360. Answering the most frequent
class everywhere gives an mIoU of 0.027.

    model      steps × batch  mIoU   pixel accuracy  minutes  CPU minutes
    LRFormerT       300 × 2   0.224           0.624     17.6          8.5
    OffSegT         300 × 2   0.264           0.673     10.3          5.0

These are short runs, of less than two epochs, on two cores of an AMD EPYC that other
jobs shared: "CPU minutes" is what a training got. So short, it learns large classes
(sky, road, building, car, a part of the pavement) and no others: trees, a sixth of all
pixels, are taken for buildings, and poles, signs, fences, pedestrians and bicyclists
have an IoU of 0. SegNet is published with 0.601 on the test set, from an ImageNet
encoder. Every try is in results/camvid.csv: they are too few and too short to say which
learning rate is best.

Why these numbers; only what is called measured was compared:

- Half the resolution, crops of 180×240 from images at 0.5 to 0.75 of their size: on a
  CPU the number of crops counts most. Tested at 180×240 as well, which gave more than
  270×360 (measured: LRFormer-T 0.213, OffSeg-T 0.222 there) and 225×300 (LRFormer-T
  0.183), and was chosen on these same validation images.
- Batches of 2. LRFormer's attention costs the same at any crop, so a step costs in
  proportion to its images (measured: 1.7 CPU seconds, 3.1 with 4 images).
- A rate of 2e-3 for LRFormer-T (measured over 20 steps only, with 4 images: a loss of
  1.52, where 1e-3 gave 1.65).
- No drop path, no dropout: nothing is over-fitted in two epochs.
- No distortion of colours for OffSeg-T: few steps are left to learn to undo it. For
  LRFormer-T the training loss was lower without (0.69 against 0.75 after 275 steps, at
  1e-3), on easier images; it was not scored.
- PyTorch: it starts in seconds. A step of TensorFlow took as long (measured), after a
  minute of tracing.

Rows "…/long" are a proposal for a GPU, at the images' own size; nobody ran them.
"""

from dataclasses import replace

from keras_lrseg.evaluation import TestSettings
from keras_lrseg.training import SegmentationRecipe, recipe_rows

LONG = SegmentationRecipe(
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
SHORT = replace(
    LONG,
    crop=(180, 240),
    scale=(0.5, 0.75),
    batch_size=2,
    steps=300,
    epoch_steps=100,
    warmup_steps=30,
    drop_path_rate=0.0,
    dropout_rate=0.0,
    test=TestSettings(short_side=180, long_side=240),
)

RECIPES = {
    **recipe_rows(
        SHORT,
        "learning_rate photometric",
        ("LRFormerT", 2e-3, True),
        ("OffSegT", 1e-3, False),
    ),
    **recipe_rows(
        LONG,
        "drop_path_rate",
        ("LRFormerT/long", 0.1),
        ("OffSegT/long", 0.0),
    ),
}
