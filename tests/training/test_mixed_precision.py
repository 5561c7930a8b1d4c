import keras
import numpy as np
import pytest

from keras_lrseg import LRFormerL, LRFormerXL, SemanticSegmenter
from keras_lrseg.decoders import LRDecoder
from keras_lrseg.training import MeanIoU, SegmentationCrossEntropy, make_optimizer
from tests.helpers import loss_and_gradients
from tests.training.toys import toy_dataset


def small_segmenter(policy):
    """LRFormer's decoder on three convolutions, for the whole model takes minutes."""
    images = x = keras.Input((None, None, 3))
    pyramid = {}
    for level, stride in (("P3", 8), ("P4", 2), ("P5", 2)):
        x = keras.layers.Conv2D(8, 3, stride, padding="same", dtype=policy)(x)
        pyramid[level] = x
    decoder = LRDecoder(8, num_heads=2, pool_size=4, name="decoder", dtype=policy)
    classifier = keras.layers.Conv2D(3, 1, name="classifier", dtype=policy)
    backbone = keras.Model(images, pyramid)
    return SemanticSegmenter(backbone, decoder, classifier, dropout_rate=0.1)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_trains_with_float32_weights_loss_and_logits(policy):
    model = small_segmenter(policy)
    assert model.decoder.compute_dtype == policy.removeprefix("mixed_")
    model.compile(
        make_optimizer(model, 1e-3, 10, 0, global_clipnorm=1.0),
        SegmentationCrossEntropy(),
        metrics=[MeanIoU(3)],
    )
    images, masks = map(np.stack, zip(*toy_dataset(2, size=(64, 64)), strict=True))
    before = [keras.ops.convert_to_numpy(w).copy() for w in model.trainable_weights]
    for _ in range(2):
        loss, miou = map(float, model.train_on_batch(images, masks))
        assert 0 < loss < 10
        assert 0 <= miou <= 1
    after = list(map(keras.ops.convert_to_numpy, model.trainable_weights))
    assert all(np.isfinite(w).all() for w in after)
    assert any(not np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    assert {w.dtype for w in model.trainable_weights} == {"float32"}
    assert model.predict_on_batch(images).dtype == np.float32


def test_float16_scales_the_loss_or_its_gradients_would_underflow():
    model = small_segmenter("mixed_float16")
    model.compile(make_optimizer(model, 1e-3, 10, 0), SegmentationCrossEntropy())
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "policy"),
    [
        (LRFormerL, "mixed_float16"),
        (LRFormerXL, "mixed_float16"),
        (LRFormerXL, "mixed_bfloat16"),
    ],
)
def test_large_models_do_not_overflow(make, policy):
    """The authors' XL has norms of its own against it; 1024×1024 was run by hand."""
    model = make(3, dtype=policy)
    (image, mask), *_ = toy_dataset(1, size=(64, 96))
    loss, scale = SegmentationCrossEntropy(), 2.0**15  # where Keras's scaling starts

    def scaled(logits):
        return scale * loss(mask[None], logits)

    value, gradients = loss_and_gradients(model, scaled, image[None], training=True)
    assert 0 < value < 10 * scale
    assert all(np.isfinite(gradient).all() for gradient in gradients)
