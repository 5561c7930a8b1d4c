import pytest

from keras_lrseg import evaluation
from keras_lrseg.data import DATASETS

# Made by mmcv 2.1.0's rescale_size: size and (short, long) limits, (height, width).
MMCV = [
    ((480, 640), (512, 2048), (512, 683)),
    ((683, 512), (512, 2048), (683, 512)),
    ((300, 1400), (512, 2048), (439, 2048)),
    ((1111, 333), (640, 2560), (2135, 640)),
    ((375, 500), (520, 520), (390, 520)),
    ((1024, 2048), (1024, 2048), (1024, 2048)),
]


@pytest.mark.parametrize(("size", "limits", "expected"), MMCV)
def test_image_is_the_largest_within_both_sides(size, limits, expected):
    assert evaluation.TestSettings(*limits).resized(size, 1.0) == expected


@pytest.mark.parametrize(
    ("scale", "expected"),
    [(0.5, (256, 342)), (0.75, (384, 512)), (1.25, (640, 854)), (1.75, (896, 1195))],
)
def test_scale_multiplies_the_sides(scale, expected):
    # mmcv: rescale_size((683, 512), (2048 * scale, 512 * scale))
    assert evaluation.TestSettings(512, 2048).resized((512, 683), scale) == expected


def test_image_without_sides_keeps_its_size_or_is_scaled():
    settings = evaluation.TestSettings()
    assert settings.resized((331, 47), 1.0) == (331, 47)
    assert settings.resized((331, 48), 0.5) == (166, 24)
    assert settings.resized((1, 9), 0.25) == (1, 1)  # a pixel is left


def test_versions_are_every_scale_mirrored_and_not():
    settings = evaluation.TestSettings(scales=(0.5, 1.0), flip=True)
    pairs = ((0.5, False), (0.5, True), (1.0, False), (1.0, True))
    assert settings.versions == pairs
    assert evaluation.TestSettings().versions == ((1.0, False),)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"short_side": 512}, "short_side long_side together"),
        ({"long_side": 512}, "short_side long_side together"),
        ({"short_side": 512, "long_side": 511}, "short_side=512 long_side=511"),
        ({"short_side": 0, "long_side": 9}, "short_side 0"),
        ({"align": 0}, "align 0"),
        ({"pad": -1}, "pad -1"),
        ({"scales": ()}, "scales"),
        ({"scales": (1.0, 0.0)}, "scales (1.0, 0.0)"),
        ({"scales": (-0.5,)}, "scales -0.5"),
        ({"scales": (float("nan"),)}, "scales nan"),
        ({"scales": (float("inf"),)}, "scales inf"),
        ({"window": (64, 64)}, "window stride together"),
        ({"stride": (64, 64)}, "window stride together"),
        ({"window": (64, 31), "stride": (8, 8)}, "window 32 (64, 31)"),
        ({"window": (64, 32), "stride": (64, 33)}, "stride (64, 33) window (64, 32)"),
        ({"window": (64, 32), "stride": (0, 8)}, "stride (0, 8)"),
        ({"window": (64, 64), "stride": (8, 8), "pad": 32}, "pad=32 window"),
    ],
)
def test_settings_that_cannot_be_are_refused_with_what_was_given(settings, words):
    with pytest.raises(ValueError, match="Received") as error:
        evaluation.TestSettings(**settings)
    assert all(word in str(error.value) for word in words.split())
    assert "\n" not in str(error.value)


def test_papers_test_the_data_sets_there_are():
    assert set(evaluation.PAPER_SETTINGS) <= set(DATASETS)
    ade = evaluation.paper_settings("ade20k", "LRFormer")
    assert (ade.short_side, ade.long_side, ade.align) == (512, 2048, 32)
    large = evaluation.paper_settings("ade20k", "Mask2FormerL")
    assert (large.short_side, large.long_side, large.pad) == (640, 2560, 32)
    city = evaluation.paper_settings("cityscapes", "OffSeg")
    assert (city.window, city.stride) == ((1024, 1024), (768, 768))


@pytest.mark.parametrize(
    ("dataset", "family", "words"),
    [
        ("mars", "LRFormer", "'mars' ade20k cityscapes"),
        ("pascal_context", "LRFormer", "'LRFormer' OffSeg"),
    ],
)
def test_unknown_paper_is_refused_with_those_there_are(dataset, family, words):
    with pytest.raises(ValueError, match="Received") as error:
        evaluation.paper_settings(dataset, family)
    assert all(word in str(error.value) for word in words.split())
