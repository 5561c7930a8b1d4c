"""Names of EfficientFormerV2's weights in the published checkpoints.

OffSeg's (mmsegmentation), the original ImageNet classifiers (`eformer_s1_450.pth`) and
timm's (`efficientformerv2_s1`) name the same network; timm's names are brought to the
original ones. OffSeg has tables of attention biases of its own and keeps the ImageNet
ones beside them, unused.
"""

import re

from keras_lrseg.checkpoints.convert import Names, State

_TABLE = "attention_biases_seg"

_FROM_TIMM = (
    (r"^stem\.conv1\.conv\.", "patch_embed.0."),
    (r"^stem\.conv1\.bn\.", "patch_embed.1."),
    (r"^stem\.conv2\.conv\.", "patch_embed.3."),
    (r"^stem\.conv2\.bn\.", "patch_embed.4."),
    (r"^stages\.1\.downsample\.conv\.conv\.", "network.1.proj."),
    (r"^stages\.1\.downsample\.conv\.bn\.", "network.1.norm."),
    (r"^stages\.2\.downsample\.conv\.conv\.", "network.3.proj."),
    (r"^stages\.2\.downsample\.conv\.bn\.", "network.3.norm."),
    (r"^stages\.3\.downsample\.conv\.", "network.5."),
    (r"^stages\.3\.downsample\.attn\.", "network.5.attn."),
    *((rf"^stages\.{i}\.blocks\.", f"network.{2 * i}.") for i in range(4)),
    (r"\.ls(\d)\.gamma$", r".layer_scale_\1"),
    (r"\.mlp\.(fc\d|mid)\.conv\.", r".mlp.\1."),
    (r"\.mlp\.fc(\d)\.bn\.", r".mlp.norm\1."),
    (r"\.mlp\.mid\.bn\.", ".mlp.mid_norm."),
    (r"\.q\.local\.", ".q.local.0."),
    (r"\.(token_mixer|attn)\.proj\.conv\.", r".\1.proj.1."),
    (r"\.(token_mixer|attn)\.proj\.bn\.", r".\1.proj.2."),
    (r"\.(q|k|v|v_local|stride_conv|q\.proj)\.conv\.", r".\1.0."),
    (r"\.(q|k|v|v_local|stride_conv|q\.proj)\.bn\.", r".\1.1."),
    (r"^head_dist\.", "dist_head."),
)


def classifier_state(state: State) -> State:
    """Sort an ImageNet checkpoint by the parts of an `ImageClassifier`.

    The published network averages the logits of two linear maps, one trained by labels
    and one by a teacher; the average of the maps themselves gives the same.
    """
    parts, maps = {}, {"weight": [], "bias": []}
    for key, value in _original(state).items():
        part, _, leaf = key.partition(".")
        if part in ("head", "dist_head") and leaf in maps:
            maps[leaf].append(value)
        else:
            parts[f"head.{leaf}" if part == "norm" else f"backbone.{key}"] = value
    averages = {f"classifier.{k}": sum(v) / len(v) for k, v in maps.items() if v}
    return {**parts, **averages}


def _prepare(state: State) -> State:
    """Give the tables that count the same name in every checkpoint."""
    state = _original(state)
    if any(key.endswith(_TABLE) for key in state):
        return state
    return {re.sub("attention_biases$", _TABLE, k): v for k, v in state.items()}


def _original(state: State) -> State:
    if not any(key.startswith("stages.") for key in state):
        return state
    renamed = {}
    for key, value in state.items():
        for pattern, replacement in _FROM_TIMM:
            key = re.sub(pattern, replacement, key)
        renamed[key] = value
    return renamed


BACKBONE = Names(
    (r"^stem1/convolution/", "patch_embed/0/"),
    (r"^stem1/norm/", "patch_embed/1/"),
    (r"^stem2/convolution/", "patch_embed/3/"),
    (r"^stem2/norm/", "patch_embed/4/"),
    (r"^downsampling2/convolution/", "network/1/proj/"),
    (r"^downsampling2/norm/", "network/1/norm/"),
    (r"^downsampling3/convolution/", "network/3/proj/"),
    (r"^downsampling3/norm/", "network/3/norm/"),
    (r"^downsampling4/convolution/convolution/", "network/5/conv/"),
    (r"^downsampling4/convolution/norm/", "network/5/bn/"),
    (r"^downsampling4/query_local/", "network/5/attn/q/local/0/"),
    (r"^downsampling4/query/convolution/", "network/5/attn/q/proj/0/"),
    (r"^downsampling4/query/norm/", "network/5/attn/q/proj/1/"),
    (r"^downsampling4/", "network/5/attn/"),
    *((rf"^stage{i + 1}_block", f"network/{2 * i}/") for i in range(4)),
    (r"/attention_scale/scale$", "/layer_scale_1"),
    (r"/feed_forward_scale/scale$", "/layer_scale_2"),
    (r"/feed_forward/expand/convolution/", "/mlp/fc1/"),
    (r"/feed_forward/expand/norm/", "/mlp/norm1/"),
    (r"/feed_forward/convolution/convolution/", "/mlp/mid/"),
    (r"/feed_forward/convolution/norm/", "/mlp/mid_norm/"),
    (r"/feed_forward/contract/convolution/", "/mlp/fc2/"),
    (r"/feed_forward/contract/norm/", "/mlp/norm2/"),
    (r"/attention/", "/token_mixer/"),
    (r"/attention_bias$", f"/{_TABLE}"),
    (r"/talking_heads", "/talking_head"),
    (r"/reduction/", "/stride_conv/"),
    (r"/query/", "/q/"),
    (r"/key/", "/k/"),
    (r"/value/", "/v/"),
    (r"/local/(convolution|norm)/", r"/v_local/\1/"),
    (r"/projection/convolution/", "/proj/1/"),
    (r"/projection/norm/", "/proj/2/"),
    (r"/convolution/", "/0/"),
    (r"/(q|k|v|v_local|stride_conv)/norm/", r"/\1/1/"),
    unused=(
        r"attention_bias(es|_idxs|_idxs_seg)$",
        r"talking_head1\.bias$",  # of no effect: the softmax takes it away
        r"^(norm|head|dist_head)\.",  # of the ImageNet classifier
    ),
    prepare=_prepare,
)
