"""ImageNet-1K: 1,281,167 training and 50,000 validation images, 1,000 classes.

LRFormer, section 4.1 and Table 6: what its segmentation recipes start from.

    keras-lrseg train recipes/imagenet1k.py --model LRFormerSClassifier \\
        --root imagenet --precision mixed_bfloat16 --out runs/imagenet_lrformer_s

    imagenet/train/n01440764/*.JPEG, imagenet/val/n01440764/*.JPEG, ...

Total batch 1,024, 300 epochs of 1,251 steps. AdamW, 1e-3 after 5 epochs of warm-up,
half a cosine to 0, decay 0.05; warm-up and drop path are our choice. RandAugment,
MixUp, CutMix, random erasing, label smoothing. 224×224 pixels, a query grid of 7;
segmenters take 16 and load these weights as they are.

Rows "…/ablation" are the 100 epochs of section 4.4. EfficientFormerV2's authors distil
from a teacher, which this does not: take their weights. The numbers of a row hold
whatever the number of devices is; the papers name 8 GPUs. We have trained none of these
to the end.
"""

from dataclasses import replace

from keras_lrseg.training import ClassificationRecipe, recipe_rows

EPOCH = 1_251

FULL = ClassificationRecipe(
    dataset="imagenet1k",
    size=224,
    batch_size=1_024,
    steps=300 * EPOCH,
    epoch_steps=EPOCH,
    learning_rate=1e-3,
    schedule="cosine",
    warmup_steps=5 * EPOCH,
    weight_decay=0.05,
)

RECIPES = {
    **recipe_rows(
        FULL,
        "drop_path_rate",
        ("LRFormerTClassifier", 0.1),
        ("LRFormerSClassifier", 0.1),
        ("LRFormerBClassifier", 0.3),
        ("LRFormerLClassifier", 0.3),
        ("LRFormerXLClassifier", 0.4),
    ),
    **recipe_rows(
        replace(FULL, steps=100 * EPOCH),
        "drop_path_rate",
        ("LRFormerSClassifier/ablation", 0.1),
    ),
}
