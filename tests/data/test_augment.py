import numpy as np
import pytest
import tensorflow as tf

from keras_lrseg.data import augment as ops
from keras_lrseg.data.augment import CROP_TRIES, MEAN_COLOUR

# Source size, scaled size, offset, window: shrunk, enlarged, both at once, at the
# edges, the whole, and from the middle of a large image.
WINDOWS = [
    ((40, 70), (20, 35), (0, 0), (20, 35)),
    ((40, 70), (20, 35), (3, 5), (17, 30)),
    ((40, 70), (80, 140), (37, 99), (43, 41)),
    ((40, 70), (80, 140), (0, 0), (80, 140)),
    ((41, 73), (53, 49), (11, 7), (32, 32)),
    ((41, 73), (41, 73), (5, 6), (20, 20)),
    ((9, 9), (1, 18), (0, 4), (1, 14)),
    ((700, 1100), (961, 1397), (500, 800), (32, 48)),
]


@pytest.fixture
def image(rng):
    return rng.integers(0, 256, (40, 70, 3), np.uint8)


def part_of(image):
    return lambda first, last: image[first[0] : last[0], first[1] : last[1]]


def augmented(image, mask, seed, crop=(32, 48), **options):
    defaults = {
        "scale": (0.5, 2.0),
        "short_side": None,
        "max_class_share": 0.75,
        "flip": True,
        "photometric": True,
    }
    image, mask = ops.augment(
        part_of(image), mask, [seed, 0], crop, **(defaults | options)
    )
    return image.numpy(), mask.numpy()


def cropped(array, offset, window):
    return array[offset[0] :, offset[1] :][: window[0], : window[1]]


@pytest.mark.parametrize(("source", "size", "offset", "window"), WINDOWS)
def test_image_window_is_a_crop_of_the_resized_image(rng, source, size, offset, window):
    image = rng.integers(0, 256, (*source, 3), np.uint8)
    whole = tf.image.resize(image, size, antialias=True).numpy()
    sizes = map(tf.constant, (source, size, offset, window))
    result = ops.resize_window(part_of(image), *sizes)
    expected = cropped(whole, offset, window)
    assert result.shape == expected.shape
    # TensorFlow's own offsets are less exact far from the corner: 1e-4 of a pixel.
    np.testing.assert_allclose(result, expected, atol=0.05)


def test_enlarging_is_plain_bilinear(image):
    size = tf.constant((63, 140))
    source = tf.constant(image.shape[:2])
    result = ops.resize_window(part_of(image), source, size, tf.constant((0, 0)), size)
    np.testing.assert_allclose(result, tf.image.resize(image, size), atol=0.01)


@pytest.mark.parametrize(("source", "size", "offset", "window"), WINDOWS)
@pytest.mark.parametrize("step", [1, 2])
def test_mask_window_is_a_crop_of_the_mask_by_nearest_neighbour(
    rng, source, size, offset, window, step
):
    mask = rng.integers(0, 256, source, np.uint8)
    rows, columns = (
        ((np.arange(new) + 0.5) / new * old + 1e-9).astype(int)
        for new, old in zip(size, source, strict=True)
    )
    expected = cropped(mask[np.ix_(rows, columns)], offset, window)[::step, ::step]
    sizes = map(tf.constant, (size, offset, window))
    np.testing.assert_array_equal(ops.gather_window(mask, *sizes, step), expected)


def test_mask_of_a_mosaic_is_not_too_long_for_the_arithmetic():
    mask = np.zeros((1, 40000), np.uint8)
    mask[:, -100:] = 1
    sizes = map(tf.constant, ((1, 80000), (0, 79700), (1, 300)))
    expected = [[0] * 100 + [1] * 200]
    np.testing.assert_array_equal(ops.gather_window(mask, *sizes), expected)


def test_image_and_mask_stay_aligned(rng):
    """An image whose colours are its labels says where each mask pixel came from."""
    mask = np.kron(rng.integers(0, 4, (8, 8)), np.ones((32, 32), int)).astype(np.uint8)
    image = np.repeat(mask[..., None] * 60, 3, axis=-1).astype(np.uint8)
    for seed in range(8):
        crop, labels = augmented(image, mask, seed, (128, 128), photometric=False)
        valid = labels != 255
        # Apart from the blocks' smoothed edges, of two pixels in 16 or more.
        agree = np.rint(crop[..., 0] / 60)[valid] == labels[valid]
        assert agree.mean() > 0.8
        exact = crop[..., 0][valid] == labels[valid] * 60
        assert exact.mean() > 0.7


def test_scaled_size_rounds():
    mask = np.zeros((41, 3), np.uint8)
    assert ops.scaled_size(mask, tf.constant(0.5)).numpy().tolist() == [21, 2]
    assert ops.scaled_size(mask, tf.constant(0.1)).numpy().tolist() == [4, 1]


def test_labels_and_dtypes_survive(arrays):
    for seed, (image, mask) in enumerate(arrays):
        crop, labels = augmented(image, mask, seed)
        assert crop.dtype == labels.dtype == np.uint8
        assert crop.shape == (32, 48, 3)
        assert labels.shape == (32, 48)
        assert set(np.unique(labels)) <= {*np.unique(mask), 255}


def test_a_small_image_is_padded_at_the_bottom_and_right(rng):
    image = rng.integers(0, 100, (20, 30, 3), np.uint8)
    mask = np.ones((20, 30), np.uint8)
    for seed in range(4):
        crop, labels = augmented(image, mask, seed, (64, 80), scale=(1.0, 1.0))
        assert (labels[:20, :30] == 1).all()
        assert (labels[20:] == 255).all()
        assert (labels[:, 30:] == 255).all()
        assert (crop[20:] == MEAN_COLOUR).all()
        assert (crop[:, 30:] == MEAN_COLOUR).all()


def test_all_options_off_is_a_plain_crop(image):
    mask = np.arange(40 * 70).reshape(40, 70) % 4
    options = {"scale": (1.0, 1.0), "flip": False, "photometric": False}
    crop, labels = augmented(image, mask.astype(np.uint8), 0, (40, 70), **options)
    np.testing.assert_array_equal(crop, image)
    np.testing.assert_array_equal(labels, mask)


def test_half_of_the_images_are_flipped(image):
    mask = np.tile(np.arange(70, dtype=np.uint8), (40, 1))
    flipped = 0
    for seed in range(60):
        options = {"scale": (1.0, 1.0), "photometric": False}
        crop, labels = augmented(image, mask, seed, (40, 70), **options)
        if labels[0, 0] == 69:
            flipped += 1
            crop, labels = crop[:, ::-1], labels[:, ::-1]
        np.testing.assert_array_equal(crop, image)
        np.testing.assert_array_equal(labels, mask)
    assert 18 <= flipped <= 42


def test_short_side_sets_the_meaning_of_factor_one(image):
    mask = np.zeros((40, 70), np.uint8)
    _, labels = augmented(image, mask, 0, (200, 200), scale=(1.0, 1.0), short_side=100)
    assert (labels == 0).sum() == 100 * 175


# ---- The limit of a class's share


def largest_share(labels):
    counts = np.bincount(labels[labels != 255], minlength=2)
    return counts.max() / max(counts.sum(), 1)


def shares_under(limit, mask):
    image = np.zeros((*mask.shape, 3), np.uint8)
    options = {"scale": (1.0, 1.0), "photometric": False, "max_class_share": limit}
    return [largest_share(augmented(image, mask, s, **options)[1]) for s in range(60)]


def test_class_share_limit():
    mask = np.zeros((120, 120), np.uint8)
    mask[:, 90:] = 1
    free, limited = shares_under(1.0, mask), shares_under(0.75, mask)
    assert np.mean(np.array(free) > 0.76) > 0.5
    assert np.mean(np.array(limited) > 0.76) < 0.1


def test_class_share_counts_labelled_pixels_only():
    """Three quarters are ignored, the labels half and half: the first window serves."""
    mask = np.full((32, 96), 255, np.uint8)
    mask[:4], mask[4:8] = 0, 1
    sizes = tf.constant((32, 96)), tf.constant((32, 48))
    tries = tf.random.stateless_uniform([CROP_TRIES, 2], [0, 0])
    offset = ops.choose_offset(mask, *sizes, tries, 0.5)
    assert offset.numpy().tolist() == [0, int(tries[0, 1] * 49)]


def test_a_window_without_labels_is_refused():
    mask = np.full((32, 400), 255, np.uint8)
    mask[:, 200:] = np.arange(200) % 2
    image = np.zeros((32, 400, 3), np.uint8)
    options = {"scale": (1.0, 1.0), "photometric": False, "max_class_share": 1.0}
    labels = [augmented(image, mask, seed, **options)[1] for seed in range(20)]
    assert all((label != 255).any() for label in labels)


def test_a_hopeless_mask_ends_the_search():
    mask = np.zeros((64, 64), np.uint8)
    _, labels = augmented(np.zeros((64, 64, 3), np.uint8), mask, 0)
    assert (labels == 0).any()


# ---- Colours


@pytest.mark.parametrize("hue", [-0.1, -0.03, 0.0, 0.05, 0.1])
@pytest.mark.parametrize("saturation", [0.5, 1.0, 1.5])
def test_hue_and_saturation_are_those_of_hsv(rng, hue, saturation):
    image = rng.integers(0, 256, (32, 32, 3)).astype(np.float32)
    image[0] = image[0, :, :1]  # greys
    image[1, :4] = [[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]]
    expected = tf.image.adjust_saturation(image, saturation)
    expected = tf.image.adjust_hue(expected, hue)
    result = ops.shift_hue_and_saturation(image, hue, saturation)
    np.testing.assert_allclose(result, expected, atol=0.01)


def distorted(image, coins, amounts):
    """Coins: brightness, contrast, saturation, hue, contrast first."""
    uniforms = [0.0 if coin else 1.0 for coin in coins] + amounts
    return ops.distort_colours(image, tf.constant(uniforms)).numpy()


def test_no_coin_no_change(image):
    image = image.astype(np.float32)
    result = distorted(image, [0, 0, 0, 0, 0], [0.1, 0.2, 0.3, 0.4])
    np.testing.assert_array_equal(result, image)


@pytest.mark.parametrize("contrast_first", [0, 1])
@pytest.mark.parametrize("contrast", [0.5, 0.8, 1.5])
@pytest.mark.parametrize("brightness", [-32.0, 20.0, 32.0])
def test_brightness_and_contrast_clip_in_between(
    image, brightness, contrast, contrast_first
):
    image = image.astype(np.float32)
    amounts = [(brightness + 32) / 64, contrast - 0.5, 0.0, 0.0]
    result = distorted(image, [1, 1, 0, 0, contrast_first], amounts)
    expected = np.clip(image + brightness, 0, 255)
    expected = np.clip(expected * contrast, 0, 255)
    np.testing.assert_allclose(result, expected, atol=1e-3)


def test_contrast_before_and_after_colour_differ(image):
    image = image.astype(np.float32)
    amounts = [0.5, 1.0, 1.0, 1.0]
    first, last = (distorted(image, [0, 1, 1, 1, c], amounts) for c in (1, 0))
    colours = ops.shift_hue_and_saturation(np.clip(image * 1.5, 0, 255), 0.1, 1.5)
    np.testing.assert_allclose(first, colours, atol=0.01)
    assert np.abs(first - last).max() > 1


def test_every_distortion_stays_in_range(image):
    for seed in range(20):
        uniforms = tf.random.stateless_uniform([9], [seed, 0])
        result = ops.distort_colours(image.astype(np.float32), uniforms).numpy()
        assert result.min() >= 0
        assert result.max() <= 255
