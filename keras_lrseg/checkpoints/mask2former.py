"""Names of Mask2Former's head in published checkpoints.

Ours are those of MMDetection's head, which MMSegmentation, the authors of OffSeg and
LRFormer+ use. Hugging Face's `facebook/mask2former-*-semantic` are brought to them.
"""

import re

import numpy as np

from keras_lrseg.checkpoints.convert import Names, State

# Embeddings, which are no linear maps: as they are, without "weight" at the end.
_EMBEDDINGS = ("level_encoding", "query_embed", "query_feat", "level_embed")

_PIXEL = "model.pixel_level_module.decoder."
_MASK = "model.transformer_module."
_HUGGING_FACE = (
    (rf"^{_PIXEL}input_projections\.(\d)\.0\.", r"pixel_decoder.input_convs.\1.conv."),
    (rf"^{_PIXEL}input_projections\.(\d)\.1\.", r"pixel_decoder.input_convs.\1.gn."),
    (rf"^{_PIXEL}adapter_1\.0\.", "pixel_decoder.lateral_convs.0.conv."),
    (rf"^{_PIXEL}adapter_1\.1\.", "pixel_decoder.lateral_convs.0.gn."),
    (rf"^{_PIXEL}layer_1\.0\.", "pixel_decoder.output_convs.0.conv."),
    (rf"^{_PIXEL}layer_1\.1\.", "pixel_decoder.output_convs.0.gn."),
    (rf"^{_PIXEL}mask_projection\.", "pixel_decoder.mask_feature."),
    (rf"^{_PIXEL}level_embed$", "pixel_decoder.level_encoding.weight"),
    (rf"^({_PIXEL}.*\.)self_attn_layer_norm\.", r"\1norms.0."),
    (rf"^({_PIXEL}.*\.)final_layer_norm\.", r"\1norms.1."),
    (rf"^{_PIXEL}", "pixel_decoder."),
    (rf"^{_MASK}queries_embedder\.", "query_embed."),
    (rf"^{_MASK}queries_features\.", "query_feat."),
    (rf"^{_MASK}level_embed\.", "level_embed."),
    (rf"^{_MASK}decoder\.layernorm\.", "transformer_decoder.post_norm."),
    (rf"^{_MASK}decoder\.mask_predictor\.mask_embedder\.0\.0\.", "mask_embed.0."),
    (rf"^{_MASK}decoder\.mask_predictor\.mask_embedder\.1\.0\.", "mask_embed.2."),
    (rf"^{_MASK}decoder\.mask_predictor\.mask_embedder\.2\.0\.", "mask_embed.4."),
    (rf"^({_MASK}.*\.)cross_attn_layer_norm\.", r"\1norms.0."),
    (rf"^({_MASK}.*\.)self_attn_layer_norm\.", r"\1norms.1."),
    (rf"^({_MASK}.*\.)final_layer_norm\.", r"\1norms.2."),
    (rf"^({_MASK}.*\.cross_attn\.)", r"\1attn."),
    (rf"^({_MASK}.*\.self_attn\.)", r"\1attn."),
    (rf"^{_MASK}decoder\.", "transformer_decoder."),
    (r"^class_predictor\.", "cls_embed."),
    (r"\.fc1\.", ".ffn.layers.0.0."),
    (r"\.fc2\.", ".ffn.layers.1."),
)


def from_hugging_face(state: State) -> State:
    """Give a whole Hugging Face checkpoint MMSegmentation's names: "decode_head.…".

    The backbone keeps its own names behind "backbone."; the loss's weights go. Any
    other checkpoint stays as it is.
    """
    encoder, renamed = "model.pixel_level_module.encoder.", {}
    if not any(key.startswith(encoder) for key in state):
        return state
    for key, value in state.items():
        if key.startswith(encoder):
            renamed[f"backbone.{key.removeprefix(encoder)}"] = value
        elif not key.startswith("criterion."):
            for pattern, name in _HUGGING_FACE:
                key = re.sub(pattern, name, key)
            renamed[f"decode_head.{key}"] = value
    return renamed


def from_mmdetection(state: State) -> State:
    """Give MMDetection's head, "panoptic_head.…", MMSegmentation's name."""
    return {re.sub(r"^panoptic_head\.", "decode_head.", k): v for k, v in state.items()}


def _head(state: State) -> State:
    """Split the attentions' stacked maps to query, key and value."""
    prepared = {}
    for key, value in state.items():
        stacked = re.fullmatch(r"(.*\.attn\.)in_proj_(weight|bias)", key)
        if stacked:
            for name, part in zip("qkv", np.split(value, 3), strict=True):
                prepared[f"{stacked[1]}{name}_proj.{stacked[2]}"] = part
        else:
            for name in _EMBEDDINGS:
                key = re.sub(rf"(^|\.){name}\.weight$", rf"\1{name}", key)
            prepared[key] = value
    return prepared


PIXEL_DECODER = Names(
    (r"^", r"pixel_decoder/"),
    (r"/level_embeddings$", r"/level_encoding"),
    (r"/projection(\d)/", r"/input_convs/\1/"),
    (r"/lateral/", r"/lateral_convs/0/"),
    (r"/fusion/", r"/output_convs/0/"),
    (r"/convolution/", r"/conv/"),
    (r"/norm/", r"/gn/"),
    (r"/mask_features/", r"/mask_feature/"),
    (r"/block(\d+)/", r"/encoder/layers/\1/"),
    (r"/attention/offset/", r"/self_attn/sampling_offsets/"),
    (r"/attention/attention/", r"/self_attn/attention_weights/"),
    (r"/attention/value/", r"/self_attn/value_proj/"),
    (r"/attention/projection/", r"/self_attn/output_proj/"),
    (r"/expand/", r"/ffn/layers/0/0/"),
    (r"/contract/", r"/ffn/layers/1/"),
    (r"/norm1/", r"/norms/0/"),
    (r"/norm2/", r"/norms/1/"),
    prepare=_head,
)

MASK_DECODER = Names(
    (r"^query_features$", r"query_feat"),
    (r"^query_embeddings$", r"query_embed"),
    (r"^level_embeddings$", r"level_embed"),
    (r"^head/norm/", r"transformer_decoder/post_norm/"),
    (r"^head/classifier/", r"cls_embed/"),
    (r"^head/embedding0/", r"mask_embed/0/"),
    (r"^head/embedding1/", r"mask_embed/2/"),
    (r"^head/embedding2/", r"mask_embed/4/"),
    (r"^head/offset_learning/class_projection/", r"offset_learning/cls_offset_proj/"),
    (
        r"^head/offset_learning/feature_projection/",
        r"offset_learning/feat_offset_proj/",
    ),
    (r"^block(\d+)/", r"transformer_decoder/layers/\1/"),
    (r"/(cross|self)_attention/query/", r"/\1_attn/attn/q_proj/"),
    (r"/(cross|self)_attention/key/", r"/\1_attn/attn/k_proj/"),
    (r"/(cross|self)_attention/value/", r"/\1_attn/attn/v_proj/"),
    (r"/(cross|self)_attention/projection/", r"/\1_attn/attn/out_proj/"),
    (r"/expand/", r"/ffn/layers/0/0/"),
    (r"/contract/", r"/ffn/layers/1/"),
    (r"/norm(\d)/", r"/norms/\1/"),
    prepare=_head,
)
