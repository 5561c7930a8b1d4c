"""Names of SegNeXt's checkpoints, those of MMSegmentation and of the authors."""

import numpy as np

from keras_lrseg.backbones.mscan import VARIANTS
from keras_lrseg.checkpoints.convert import Names, State

SQUEEZE = "squeeze.conv.weight"


def _backbone(state: State) -> State:
    """The authors' own checkpoints wrap the feed-forward's depthwise convolution."""
    return {
        key.replace(".dwconv.dwconv.", ".dwconv."): value
        for key, value in state.items()
    }


BACKBONE = Names(
    (r"^embedding0/convolution", r"patch_embed1/proj/0"),
    (r"^embedding0/norm", r"patch_embed1/proj/1"),
    (r"^embedding1/convolution", r"patch_embed1/proj/3"),
    (r"^embedding1/norm", r"patch_embed1/proj/4"),
    (r"^embedding(\d)/convolution", r"patch_embed\1/proj"),
    (r"^embedding(\d)/norm", r"patch_embed\1/norm"),
    (r"^stage(\d)_block(\d+)", r"block\1/\2"),
    (r"attention/project_in", r"attn/proj_1"),
    (r"attention/project_out", r"attn/proj_2"),
    (r"attention/", r"attn/spatial_gating_unit/"),
    (r"/local/", r"/conv0/"),
    (r"/row7/", r"/conv0_1/"),
    (r"/column7/", r"/conv0_2/"),
    (r"/row11/", r"/conv1_1/"),
    (r"/column11/", r"/conv1_2/"),
    (r"/row21/", r"/conv2_1/"),
    (r"/column21/", r"/conv2_2/"),
    (r"/mix/", r"/conv3/"),
    (r"feed_forward/expand", r"mlp/fc1"),
    (r"feed_forward/convolution", r"mlp/dwconv"),
    (r"feed_forward/contract", r"mlp/fc2"),
    (r"scale(\d)/scale$", r"layer_scale_\1"),
    prepare=_backbone,
)


def _decoder(state: State) -> State:
    """Split the squeezing convolution over P3, P4 and P5, whose widths it adds up."""
    for variant in VARIANTS.values():
        widths = variant["channels"][1:]
        if SQUEEZE in state and state[SQUEEZE].shape[1] == sum(widths):
            state = dict(state)
            parts = np.split(state.pop(SQUEEZE), np.cumsum(widths)[:-1], axis=1)
            state |= {f"squeeze.{i}.conv.weight": part for i, part in enumerate(parts)}
    return state


DECODER = Names(
    (r"^squeeze(\d)", r"squeeze/\1/conv"),
    (r"^norm", r"squeeze/gn"),
    (r"lower_bread", r"ham_in/conv"),
    (r"upper_bread", r"ham_out"),
    (r"/convolution/", r"/conv/"),
    (r"/norm/", r"/gn/"),
    prepare=_decoder,
)
