"""Names of Swin Transformer's published checkpoints.

Ours are those of MMSegmentation and MMDetection. Hugging Face's and Microsoft's are
brought to them.

Image classifiers have no layer normalizations behind the first three stages. Theirs
start with factor 1 and shift 0, as where Mask2Former is trained from such weights.
"""

import re

import numpy as np

from keras_lrseg.checkpoints.convert import Names, State

# Hugging Face's names, those of the files and those of transformers 5; Microsoft's.
_RENAMED = (
    (r"^(swin\.)?embeddings\.patch_embeddings\.", "patch_embed."),
    (r"^(swin\.)?embeddings\.norm\.", "patch_embed.norm."),
    (r"^(swin\.)?(encoder\.)?layers\.", "stages."),
    (r"^hidden_states_norms\.stage(\d)", lambda stage: f"norm{int(stage[1]) - 1}"),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.attention\.(self\.query|q_proj)\.", ".attn.w_msa.query."),
    (r"\.attention\.(self\.key|k_proj)\.", ".attn.w_msa.key."),
    (r"\.attention\.(self\.value|v_proj)\.", ".attn.w_msa.value."),
    (r"\.attention\.(output\.dense|o_proj)\.", ".attn.w_msa.proj."),
    (r"\.attention\.(self|relative_position_bias)\.", ".attn.w_msa."),
    (r"\.(intermediate\.dense|mlp\.fc1)\.", ".ffn.layers.0.0."),
    (r"\.(output\.dense|mlp\.fc2)\.", ".ffn.layers.1."),
    (r"^patch_embed\.proj\.", "patch_embed.projection."),
    (r"\.attn\.(qkv|proj|relative_position)", r".attn.w_msa.\1"),
)


def _renamed(key: str) -> str:
    for pattern, replacement in _RENAMED:
        key = re.sub(pattern, replacement, key)
    return key


def _fuse(state: State) -> None:
    """Make one linear map `qkv` of three."""
    for key in [key for key in state if ".w_msa.query." in key]:
        names = [key.replace("query", part) for part in ("query", "key", "value")]
        if all(name in state for name in names):
            parts = [state.pop(name) for name in names]
            state[key.replace("query", "qkv")] = np.concatenate(parts)


def _row_by_row(merged: np.ndarray, by_channel: bool) -> np.ndarray:
    """Sort the last axis, the channels of 2×2 pixels, as `PatchMerging` has them.

    Args:
        by_channel: the order is (channel, row, column), as MMDetection's `nn.Unfold`
            gives it; else (column, row, channel).
    """
    if by_channel:
        parts = merged.reshape(-1, merged.shape[-1] // 4, 2, 2).transpose(0, 2, 3, 1)
    else:
        parts = merged.reshape(-1, 2, 2, merged.shape[-1] // 4).transpose(0, 2, 1, 3)
    return parts.reshape(merged.shape)


def _add_norms(state: State) -> None:
    """Add those that an image classifier lacks."""
    if any(re.match(r"norm[012]\.", key) for key in state):
        return
    keys = ["patch_embed.norm.weight"]
    keys += [f"stages.{i}.downsample.reduction.weight" for i in range(3)]
    for i, key in enumerate(keys):
        if key in state:
            width = len(state[key])
            state.setdefault(f"norm{i}.weight", np.ones(width, "float32"))
            state.setdefault(f"norm{i}.bias", np.zeros(width, "float32"))


def _prepare(state: State) -> State:
    by_channel = "patch_embed.projection.weight" in state
    state = {_renamed(k): v for k, v in state.items()}
    for key, value in state.items():
        if ".downsample." in key:
            state[key] = _row_by_row(value, by_channel)
    _fuse(state)
    _add_norms(state)
    return state


BACKBONE = Names(
    (r"^embedding/convolution", r"patch_embed/projection"),
    (r"^embedding", r"patch_embed"),
    *((rf"^norm{i}", rf"norm{i - 1}") for i in (1, 2, 3, 4)),
    *((rf"^merging{i}", rf"stages/{i - 2}/downsample") for i in (2, 3, 4)),
    *((rf"^stage{i}_block(\d+)", rf"stages/{i - 1}/blocks/\1") for i in (1, 2, 3, 4)),
    (r"/attention/query_key_value", r"/attn/w_msa/qkv"),
    (r"/attention/projection", r"/attn/w_msa/proj"),
    (r"/attention/bias_table", r"/attn/w_msa/relative_position_bias_table"),
    (r"/expand", r"/ffn/layers/0/0"),
    (r"/contract", r"/ffn/layers/1"),
    unused=(
        r"\.relative_position_index$",
        r"\.attn_mask$",
        r"^(swin\.)?(layernorm|norm|pooler)\.",  # of image classifiers, as these:
        r"^(classifier|head)\.",
    ),
    prepare=_prepare,
)
