"""ImageNet-22K: 14,197,122 images, 21,841 classes; then fine-tuning on ImageNet-1K.

LRFormer, section 4.1 and Table 6, for the L and XL models.

    keras-lrseg train recipes/imagenet22k.py --model LRFormerLClassifier \\
        --root imagenet22k --precision mixed_bfloat16 --out runs/imagenet22k_lrformer_l
    keras-lrseg train recipes/imagenet22k.py --model LRFormerLClassifier/1k-384 \\
        --root imagenet --weights runs/imagenet22k_lrformer_l/model.keras \\
        --precision mixed_bfloat16 --out runs/imagenet_384_lrformer_l

First 90 epochs on 22K, numbers as on ImageNet-1K; then 30 epochs on 1K with a batch of
512 at 5e-5, at 224×224 or 384×384 pixels (a query grid of 12). The fine-tuning has a
new classification layer. Warm-up, drop path, and the decay and augmentation of the
fine-tuning are our choice. We have trained none of these to the end.
"""

from dataclasses import replace

from keras_lrseg.training import ClassificationRecipe, recipe_rows

EPOCH_22K = 14_197_122 // 1_024
EPOCH_1K = 1_281_167 // 512

PRETRAINING = ClassificationRecipe(
    dataset="imagenet22k",
    size=224,
    batch_size=1_024,
    steps=90 * EPOCH_22K,
    epoch_steps=EPOCH_22K,
    learning_rate=1e-3,
    schedule="cosine",
    warmup_steps=5 * EPOCH_22K,
    weight_decay=0.05,
)
FINE_TUNING = replace(
    PRETRAINING,
    dataset="imagenet1k",
    initial="ImageNet-22K",
    reset_head=True,
    batch_size=512,
    steps=30 * EPOCH_1K,
    epoch_steps=EPOCH_1K,
    learning_rate=5e-5,
    warmup_steps=5 * EPOCH_1K,
    weight_decay=1e-8,
    mixup=0.0,
    cutmix=0.0,
)
FINE_TUNING_384 = replace(FINE_TUNING, size=384, test_size=384, pool_size=12)

RECIPES = {
    **recipe_rows(
        PRETRAINING,
        "drop_path_rate",
        ("LRFormerLClassifier", 0.1),
        ("LRFormerXLClassifier", 0.2),
    ),
    **recipe_rows(
        FINE_TUNING,
        "drop_path_rate",
        ("LRFormerLClassifier/1k", 0.3),
        ("LRFormerXLClassifier/1k", 0.4),
    ),
    **recipe_rows(
        FINE_TUNING_384,
        "drop_path_rate",
        ("LRFormerLClassifier/1k-384", 0.3),
        ("LRFormerXLClassifier/1k-384", 0.4),
    ),
}
