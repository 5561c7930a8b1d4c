"""Names of SegFormer's published checkpoints.

Ours are those of the authors' (NVIDIA's) encoder. MMSegmentation's, which the authors
of OffSeg use, and Hugging Face's `nvidia/mit-b*` are brought to them. Transformers
computes with layer norms of epsilon 1e-5, `MixTransformerBackbone` with 1e-6: give it
`epsilon=1e-5` to reproduce transformers' features.

The decoder is MMSegmentation's alone: the others' has linear maps with a bias and
without batch norm in front of the fusion.
"""

import re

import numpy as np

from keras_lrseg.checkpoints.convert import Names, State

# Both count stages from 0, the authors from 1.
_STAGES = (
    (r"^layers\.(\d)\.0\.projection\.", "patch_embed{}.proj."),
    (r"^layers\.(\d)\.0\.norm\.", "patch_embed{}.norm."),
    (r"^layers\.(\d)\.1\.", "block{}."),
    (r"^layers\.(\d)\.2\.", "norm{}."),
    (r"^encoder\.patch_embeddings\.(\d)\.proj\.", "patch_embed{}.proj."),
    (r"^encoder\.patch_embeddings\.(\d)\.layer_norm\.", "patch_embed{}.norm."),
    (r"^encoder\.block\.(\d)\.", "block{}."),
    (r"^encoder\.layer_norm\.(\d)\.", "norm{}."),
)
_BLOCK = (
    ("attn.attn.in_proj_", "attn.qkv."),
    ("attn.attn.out_proj.", "attn.proj."),
    ("ffn.layers.0.", "mlp.fc1."),
    ("ffn.layers.1.", "mlp.dwconv.dwconv."),
    ("ffn.layers.4.", "mlp.fc2."),
    ("layer_norm_1.", "norm1."),
    ("layer_norm_2.", "norm2."),
    ("attention.self.query.", "attn.q."),
    ("attention.self.key.", "attn.k."),
    ("attention.self.value.", "attn.v."),
    ("attention.self.sr.", "attn.sr."),
    ("attention.self.layer_norm.", "attn.norm."),
    ("attention.output.dense.", "attn.proj."),
    ("mlp.dense1.", "mlp.fc1."),
    ("mlp.dense2.", "mlp.fc2."),
)


def _as_the_authors(key: str) -> str:
    key = key.removeprefix("segformer.")
    for pattern, place in _STAGES:
        found = re.match(pattern, key)
        if found:
            key = place.format(int(found[1]) + 1) + key[found.end() :]
    for other, own in _BLOCK:
        key = key.replace(f".{other}", f".{own}")
    return key


def _encoder(state: State) -> State:
    """Rename, and make the two linear maps `q` and `kv` of one or of three."""
    state = {_as_the_authors(key): value for key, value in state.items()}
    for key in list(state):
        if ".attn.qkv." in key:
            value = state.pop(key)
            q, kv = np.split(value, [len(value) // 3])
            state |= {key.replace("qkv", "q"): q, key.replace("qkv", "kv"): kv}
        other = key.replace(".attn.k.", ".attn.v.")
        if ".attn.k." in key and other in state:
            parts = [state.pop(key), state.pop(other)]
            state[key.replace(".attn.k.", ".attn.kv.")] = np.concatenate(parts)
    return state


def _decoder(state: State) -> State:
    """Split the fusing convolution over the four levels."""
    if any(key.startswith("linear_") for key in state):
        raise ValueError(
            "The head of NVIDIA's and Hugging Face's SegFormer is another than that of "
            "SegFormerDecoder, MMSegmentation's. Load the encoder alone with "
            "backbone_weights=."
        )
    state = dict(state)
    kernel = state.pop("fusion_conv.conv.weight", None)
    if kernel is not None:
        for i, part in enumerate(np.split(kernel, 4, axis=1)):
            state[f"fusion_conv.conv.{i}.weight"] = part
    return state


BACKBONE = Names(
    (r"^stage(\d)/embedding/convolution", r"patch_embed\1/proj"),
    (r"^stage(\d)/embedding", r"patch_embed\1"),
    (r"^stage(\d)/norm", r"norm\1"),
    (r"^stage(\d)/block(\d+)", r"block\1/\2"),
    (r"/attention/query", r"/attn/q"),
    (r"/attention/key_value", r"/attn/kv"),
    (r"/attention/projection", r"/attn/proj"),
    (r"/attention/reduce", r"/attn/sr"),
    (r"/attention/norm", r"/attn/norm"),
    (r"/feed_forward/expand", r"/mlp/fc1"),
    (r"/feed_forward/convolution", r"/mlp/dwconv/dwconv"),
    (r"/feed_forward/contract", r"/mlp/fc2"),
    unused=(r"^classifier\.",),  # of Hugging Face's ImageNet classifiers
    prepare=_encoder,
)

DECODER = Names(
    (r"^convolution(\d)/convolution", r"convs/\1/conv"),
    (r"^convolution(\d)/norm", r"convs/\1/bn"),
    (r"^fusion(\d)", r"fusion_conv/conv/\1"),
    (r"^norm", r"fusion_conv/bn"),
    prepare=_decoder,
)
