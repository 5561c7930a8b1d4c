"""Names of OffSeg's published checkpoints (mmsegmentation)."""

import re

from keras_lrseg.checkpoints.convert import Names, State

SUBPIXEL = re.compile(r"(^|\.)(offset|direct_scale)\.(weight|bias)$")
WINDOW = re.compile(r"(^|\.)hamming_(low|high)pass$")


def _prepare_decoder(state: State) -> State:
    """Reorder output channels from PyTorch's pixel shuffle, (C, 2×2), to (2×2, C).

    Raises:
        ValueError: if the checkpoint filters with a window, which OffSeg does not.
    """
    for key, value in state.items():
        if WINDOW.search(key) and (value != 1).any():
            raise ValueError(
                f"{key} is a window. Expected 1 everywhere: OffSeg's FreqFusion has "
                "none."
            )

    def reorder(array):
        by_pixel = array.reshape(-1, 4, *array.shape[1:]).swapaxes(0, 1)
        return by_pixel.reshape(array.shape)

    return {k: reorder(v) if SUBPIXEL.search(k) else v for k, v in state.items()}


DECODER = Names(
    (r"^squeeze(\d)", r"pre/\1"),
    (r"^fusion(\d)", r"freqfusions/\1"),
    (r"(pre/\d|align)/convolution/", r"\1/conv/"),
    (r"(pre/\d|align)/norm/", r"\1/gn/"),
    (r"compress_high/", r"hr_channel_compressor/"),
    (r"compress_low/", r"lr_channel_compressor/"),
    (r"low_pass/", r"content_encoder/"),
    (r"high_pass/", r"content_encoder2/"),
    (r"resampler/", r"dysampler/"),
    (r"offset_high/", r"hr_offset/"),
    (r"offset_low/", r"offset/"),
    (r"scale_high/", r"hr_direct_scale/"),
    (r"scale_low/", r"direct_scale/"),
    (r"norm_high/", r"norm_hr/"),
    (r"norm_low/", r"norm_lr/"),
    # Windows of ones, and positions that the resampler makes anew for each size.
    unused=(WINDOW.pattern, r"(^|\.)init_pos$"),
    prepare=_prepare_decoder,
)
