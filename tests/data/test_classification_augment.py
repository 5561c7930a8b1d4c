import numpy as np
import pytest
from PIL import Image

from keras_lrseg.data import classification_augment as ops
from keras_lrseg.data.augment import MEAN_COLOUR
from keras_lrseg.data.randaugment import OPERATIONS, rand_augment


def smooth(rng, height, width):
    blocks = rng.integers(0, 256, (height // 16 + 1, width // 16 + 1, 3), np.uint8)
    return np.asarray(Image.fromarray(blocks).resize((width, height)))


# ---- Crops


def test_random_boxes_are_inside_and_of_the_asked_share_and_aspect(rng):
    shares, aspects = [], []
    for _ in range(500):
        left, top, right, bottom = ops.random_box((500, 375), (0.08, 1.0), rng)
        assert 0 <= left < right <= 500
        assert 0 <= top < bottom <= 375
        shares.append((right - left) * (bottom - top) / (500 * 375))
        aspects.append((right - left) / (bottom - top))
    assert 0.075 < min(shares) < 0.12
    assert 0.9 < max(shares) <= 1.0
    assert 0.73 < min(aspects) < 0.8
    assert 1.25 < max(aspects) < 1.36
    assert abs(np.log(aspects).mean()) < 0.05


@pytest.mark.parametrize(
    ("size", "expected"),
    [((1000, 30), (480, 0, 520, 30)), ((30, 1000), (0, 480, 30, 520))],
)
def test_where_no_box_fits_the_centre_is_taken(rng, size, expected):
    assert ops.random_box(size, (0.9, 1.0), rng) == pytest.approx(expected)


def test_centre_is_224_of_256():
    box = ops.centred_box((341, 256), 1.0, ops.CENTRE)
    assert box == pytest.approx((58.5, 16, 282.5, 240))
    assert ops.centred_box((100, 100), 2.0, 0.5) == pytest.approx((25, 37.5, 75, 62.5))


def test_no_size_rounds_to_a_box_outside_the_image(rng):
    for _ in range(300):
        width, height = rng.integers(1, 900, 2).tolist()
        image = np.zeros((height, width, 3), np.uint8)
        for aspect in (3 / 4, 1.0, 4 / 3):
            box = ops.centred_box((width, height), aspect, 1.0)
            assert min(box) >= 0
            ops.read_box(image, (3, 4), lambda _, box=box: box)


def test_read_box_is_a_crop_of_the_resized_image(rng):
    image = rng.integers(0, 256, (60, 81, 3), np.uint8)
    result = ops.read_box(image, (15, 20), lambda _: (12, 6, 72, 51))
    whole = Image.fromarray(image).resize((27, 20), Image.BICUBIC)
    np.testing.assert_array_equal(result, whole.crop((4, 2, 24, 17)))


def test_centre_is_that_of_the_resized_image(rng):
    image = smooth(rng, 300, 450)
    box = ops.centred_box((450, 300), 1.0, ops.CENTRE)
    result = np.asarray(ops.read_box(image, (224, 224), lambda _: box), int)
    whole = Image.fromarray(image).resize((384, 256), Image.BICUBIC)
    expected = np.asarray(whole.crop((80, 16, 304, 240)), int)
    assert np.abs(result - expected).max() <= 1


@pytest.mark.parametrize(("side", "decoded"), [(90, (200, 150)), (200, (400, 300))])
def test_large_jpegs_are_decoded_at_a_fraction_of_their_size(
    rng, tmp_path, monkeypatch, side, decoded
):
    path, sizes = tmp_path / "large.jpg", []
    Image.fromarray(smooth(rng, 600, 800)).save(path, quality=95)
    resize = Image.Image.resize

    def spy(image, *arguments):
        sizes.append(image.size)
        return resize(image, *arguments)

    monkeypatch.setattr(Image.Image, "resize", spy)
    box = (100, 60, 700, 560)
    result = np.asarray(ops.read_box(path, (side, side), lambda _: box), int)
    assert sizes == [decoded]
    whole = resize(Image.open(path), (side, side), Image.BICUBIC, box)
    assert np.abs(result - np.asarray(whole, int)).mean() < 1.5


# ---- RandAugment


@pytest.fixture
def picture(rng):
    return Image.fromarray(smooth(rng, 48, 64))


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_operations_keep_size_and_mode(picture, name, sign):
    result = OPERATIONS[name](picture, 0.9, sign)
    assert (result.size, result.mode) == (picture.size, "RGB")
    changed = np.asarray(result) != np.asarray(picture)
    assert changed.any() or name in ("autocontrast", "equalize")


@pytest.mark.parametrize(
    "name", sorted({*OPERATIONS} - {"autocontrast", "equalize", "invert", "posterize"})
)
def test_strength_zero_changes_nothing(picture, name):
    result = OPERATIONS[name](picture, 0.0, 1.0)
    assert np.abs(np.asarray(result, int) - np.asarray(picture, int)).max() <= 1


def test_amounts_at_full_strength():
    ramp = np.repeat(np.arange(100, dtype=np.uint8)[None, :, None], 100, axis=0)
    ramp = Image.fromarray(np.repeat(ramp, 3, axis=2))
    moved = np.asarray(OPERATIONS["translate_x"](ramp, 1.0, 1.0))
    assert moved[50, :55, 0].tolist() == list(range(45, 100))
    assert moved[50, 60].tolist() == list(MEAN_COLOUR)
    np.testing.assert_array_equal(
        OPERATIONS["translate_y"](ramp.transpose(Image.Transpose.TRANSPOSE), 1.0, 1.0),
        moved.transpose(1, 0, 2),
    )
    sheared = np.asarray(OPERATIONS["shear_x"](ramp, 1.0, 1.0), int)
    assert (sheared[60, :50, 0] - sheared[0, :50, 0] == 18).all()
    bits = np.unique(np.asarray(OPERATIONS["posterize"](ramp, 0.5, 1.0)))
    assert bits.tolist() == [0, 64]
    inverted = np.asarray(OPERATIONS["solarize"](ramp, 0.75, 1.0))[0, :, 0]
    assert inverted.tolist() == [v if v < 64 else 255 - v for v in range(100)]
    added = np.asarray(OPERATIONS["solarize_add"](ramp, 0.5, 1.0))[0, :, 0]
    assert added.tolist() == [v + 55 for v in range(100)]
    brighter = np.asarray(OPERATIONS["brightness"](ramp, 1.0, 1.0))[0, :, 0]
    assert brighter.tolist() == [int(1.9 * v) for v in range(100)]
    turned = OPERATIONS["rotate"](ramp, 0.5, -1.0)
    expected = ramp.rotate(-15, Image.BILINEAR, fillcolor=MEAN_COLOUR)
    np.testing.assert_array_equal(turned, expected)


def test_every_operation_is_drawn_and_half_are_applied(picture, monkeypatch):
    applied = []
    for name in OPERATIONS:

        def record(image, strength, sign, name=name):
            applied.append((name, strength, sign))
            return image

        monkeypatch.setitem(OPERATIONS, name, record)
    generator = np.random.default_rng(0)
    for _ in range(1000):
        rand_augment(picture, 9.0, generator)
    names, strengths, signs = zip(*applied, strict=True)
    assert 900 < len(applied) < 1100
    counts = [names.count(name) for name in OPERATIONS]
    assert min(counts) > 35
    assert max(counts) < 105
    assert max(strengths) <= 1.0
    assert abs(np.mean(strengths) - 0.9) < 0.01
    assert abs(np.std(strengths) - 0.05) < 0.01
    assert abs(np.mean(signs)) < 0.15


def test_the_generator_decides_everything(picture):
    first, again, other = (
        np.asarray(ops.augment_one(
            np.asarray(picture), (32, 32), np.random.default_rng(seed),
            scale=(0.08, 1.0), magnitude=9.0, erasing=0.5,
        ))
        for seed in (1, 1, 2)
    )  # fmt: skip
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


# ---- Erasing and mixing


def test_erasing(rng):
    shares = []
    for _ in range(200):
        image = np.zeros((64, 96, 3), np.uint8)
        ops.erase(image, rng)
        rows, columns = (image.any(axis=2).any(axis=axis) for axis in (1, 0))
        inside = image[rows][:, columns]
        shares.append(inside.shape[0] * inside.shape[1] / (64 * 96))
        assert (image[~rows] == 0).all()
        assert (image[:, ~columns] == 0).all()
    assert 0.015 < min(shares) < 0.05
    assert 0.28 < max(shares) < 0.35
    assert abs(inside.mean() - np.mean(MEAN_COLOUR)) < 10


@pytest.fixture
def two(rng):
    return rng.integers(0, 256, (2, 40, 60, 3), np.uint8)


def test_mixup_blends(two, rng):
    mixed, share = ops.mix(two, 0.8, 0.0, rng)
    assert 0 < share < 1
    for own, other, result in ((0, 1, mixed[0]), (1, 0, mixed[1])):
        expected = share * two[own] + (1 - share) * two[other]
        np.testing.assert_allclose(result, expected, atol=0.51)


def test_cutmix_exchanges_a_rectangle(rng):
    two = np.stack([np.zeros((40, 60, 3), np.uint8), np.ones((40, 60, 3), np.uint8)])
    shares = []
    for _ in range(100):
        mixed, share = ops.mix(two, 0.0, 1.0, rng)
        assert (mixed[0] + mixed[1] == 1).all()
        assert mixed[1].mean() == pytest.approx(share)
        rows, columns = (mixed[0, ..., 0].any(axis=axis) for axis in (1, 0))
        assert mixed[0][rows][:, columns].all()
        shares.append(share)
    assert np.std(shares) > 0.1


def test_both_mixings_are_used_half_of_the_time(rng):
    two = np.stack([np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 255, np.uint8)])
    blended = 0
    for _ in range(300):
        mixed, _ = ops.mix(two, 0.8, 1.0, rng)
        blended += not {*np.unique(mixed)} <= {0, 255}
    assert 90 < blended < 180  # MixUp with a share of nearly 0 or 1 blends nothing


def test_no_mixing(two, rng):
    mixed, share = ops.mix(two, 0.0, 0.0, rng)
    assert share == 1.0
    assert mixed is two


def test_soft_labels():
    labels = ops.soft_labels(np.array([3, 1]), 0.75, 5, 0.1)
    assert labels.dtype == np.float32
    np.testing.assert_allclose(
        labels,
        [[0.02, 0.245, 0.02, 0.695, 0.02], [0.02, 0.695, 0.02, 0.245, 0.02]],
        rtol=1e-6,
    )
    same = ops.soft_labels(np.array([2, 2]), 0.3, 4, 0.0)
    np.testing.assert_allclose(same, [[0, 0, 1, 0]] * 2, rtol=1e-6)
