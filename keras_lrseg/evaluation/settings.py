"""How images are prepared for a test, and how the papers prepare them."""

import dataclasses
import itertools
import math

from keras_lrseg.backbones.inputs import MIN_SIZE


@dataclasses.dataclass(frozen=True)
class TestSettings:
    """How a segmenter sees the images of a test. Scores are at the original size.

    The default is the whole image at its own size.

    Args:
        short_side, long_side: an image is resized, its aspect kept, to the largest size
            within both, in pixels. None: its own size.
        align: stretch then both sides up to a multiple of this.
        pad: pad then right and bottom up to a multiple of this, with the mean colour;
            the logits of the padding are thrown away. Not with a window.
        window: (height, width) of a sliding window; the logits of windows that overlap
            are averaged. None: the whole image at once.
        stride: (vertical, horizontal) step of the window, at most the window.
        scales: factors of the size; with several, the softmax is averaged.
        flip: average the softmax with that of the mirrored image.

    Raises:
        ValueError: for settings that no image could be tested with.
    """

    short_side: int | None = None
    long_side: int | None = None
    align: int | None = None
    pad: int | None = None
    window: tuple[int, int] | None = None
    stride: tuple[int, int] | None = None
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False

    def __post_init__(self):
        if (self.short_side is None) != (self.long_side is None):
            raise ValueError(
                "short_side and long_side go together. Received: "
                f"short_side={self.short_side}, long_side={self.long_side}"
            )
        if self.short_side and self.short_side > self.long_side:
            raise ValueError(
                "short_side is at most long_side. Received: "
                f"short_side={self.short_side}, long_side={self.long_side}"
            )
        for name in ("short_side", "align", "pad"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(
                    f"{name} expects pixels, 1 or more. Received: {getattr(self, name)}"
                )
        if not self.scales or not all(0 < s < math.inf for s in self.scales):
            raise ValueError(f"scales expects factors above 0. Received: {self.scales}")
        if (self.window is None) != (self.stride is None):
            raise ValueError(
                "window and stride go together. Received: "
                f"window={self.window}, stride={self.stride}"
            )
        if self.window:
            self._check_window()

    def _check_window(self):
        if self.pad:
            raise ValueError(
                "pad is for whole images, windows are not padded. Received: "
                f"pad={self.pad}, window={self.window}"
            )
        if min(self.window) < MIN_SIZE:
            raise ValueError(
                f"window expects sides of at least {MIN_SIZE} pixels. Received: "
                f"{self.window}"
            )
        if any(not 1 <= s <= w for s, w in zip(self.stride, self.window, strict=True)):
            raise ValueError(
                "stride expects steps from 1 to the window's side, or pixels would be "
                f"left out. Received: stride={self.stride}, window={self.window}"
            )

    @property
    def versions(self) -> tuple[tuple[float, bool], ...]:
        """What is averaged over: pairs of a scale and whether it is mirrored."""
        flips = (False, True) if self.flip else (False,)
        return tuple(itertools.product(self.scales, flips))

    def resized(self, size: tuple[int, int], scale: float) -> tuple[int, int]:
        """Return the (height, width) an image of `size` is resized to.

        mmcv's rule: the largest size of the same aspect within (long side, short side);
        each times the scale, rounded half up.
        """
        limits = (self.short_side or min(size), self.long_side or max(size))
        short, long = (int(limit * scale + 0.5) for limit in limits)
        factor = min(long / max(size), short / min(size))
        return tuple(max(1, int(n * factor + 0.5)) for n in size)


_WHOLE_512 = TestSettings(512, 2048, align=32)
_WHOLE_640 = TestSettings(640, 2560, align=32)
_SLIDE_512 = TestSettings(512, 2048, window=(512, 512), stride=(480, 480))
_CITYSCAPES = TestSettings(1024, 2048, window=(1024, 1024), stride=(768, 768))
_CONTEXT = TestSettings(520, 520, window=(480, 480), stride=(320, 320))
_UNALIGNED_512 = TestSettings(512, 2048)
_PADDED_512 = TestSettings(512, 2048, pad=32)
_PADDED_640 = TestSettings(640, 2560, pad=32)

PAPER_SETTINGS = {
    "ade20k": {
        "LRFormer": _WHOLE_512,
        "LRFormerL": _WHOLE_640,
        "OffSeg": _SLIDE_512,
        "SegFormer": _UNALIGNED_512,
        "SegNeXt": _PADDED_512,
        "Mask2Former": _PADDED_512,
        "Mask2FormerL": _PADDED_640,
    },
    "cityscapes": {"LRFormer": _CITYSCAPES, "OffSeg": _CITYSCAPES},
    "coco_stuff": {
        "LRFormer": _WHOLE_512,
        "OffSeg": _SLIDE_512,
        "SegFormer": _UNALIGNED_512,
        "SegNeXt": _PADDED_512,
    },
    "pascal_context": {"OffSeg": _CONTEXT},
}
"""The papers' tests, single scale, by data set and family.

"OffSeg" holds for OffSeg, for SegFormer with Offset Learning, and for every model of
that paper where no other family is listed; "SegFormer" is the paper's baseline.
"Mask2Former" holds for LRFormer+ too, "Mask2FormerL" for those trained at 640. Crop
and stride are the authors'. The sides before the window are those of mmsegmentation's
data sets, and the stride on Cityscapes for LRFormer is that of SegFormer, whose way of
testing LRFormer's authors follow.
"""


def paper_settings(dataset: str, family: str) -> TestSettings:
    """Return a paper's test settings.

    Args:
        dataset: a key of `PAPER_SETTINGS`, for example "ade20k".
        family: "LRFormer", "LRFormerL" (at 640 pixels), "OffSeg", "SegFormer",
            "SegNeXt", "Mask2Former" or "Mask2FormerL".

    Raises:
        ValueError: if there are none; it lists those there are.
    """
    for name, key, known in (
        ("dataset", dataset, PAPER_SETTINGS),
        ("family", family, PAPER_SETTINGS.get(dataset)),
    ):
        if key not in known:
            raise ValueError(
                f"{name} expects one of {sorted(known)}. Received: {key!r}"
            )
    return PAPER_SETTINGS[dataset][family]
