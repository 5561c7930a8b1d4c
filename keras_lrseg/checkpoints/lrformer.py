"""Names of LRFormer's published checkpoints (mmsegmentation)."""

from keras_lrseg.checkpoints.convert import Names

_BLOCK = [
    (r"attention/key_value", r"attn/kv"),
    (r"attention/projection", r"attn/proj"),
    (r"attention/norm", r"attn/norm"),
    (r"attention/query", r"attn/q"),
    (r"feed_forward/expand", r"mlp/fc1"),
    (r"feed_forward/convolution", r"mlp/conv"),
    (r"feed_forward/contract", r"mlp/fc2"),
    (r"/convolution/", r"/cpe/"),
    (r"scale(\d)/scale$", r"layer_scale_\1"),
]

BACKBONE = Names(
    *((rf"^stem/convolution{i + 1}", rf"patch_embed1/conv1/{3 * i}") for i in range(4)),
    *((rf"^stem/norm{i + 1}", rf"patch_embed1/conv1/{3 * i + 1}") for i in range(3)),
    (r"^stem/last_norm", r"patch_embed1/norm"),
    (r"^embedding(\d)/convolution", r"patch_embed\1/proj"),
    (r"^embedding(\d)", r"patch_embed\1"),
    (r"^stage(\d)/pyramid(\d)", r"d_convs\1/\2"),
    (r"^stage(\d)/block(\d+)", r"block\1/\2"),
    *_BLOCK,
    (r"attn/(q|kv)/", r"attn/\1/0/"),
)

DECODER = Names(
    (r"^squeeze(\d)", r"squeeze\1/conv"),
    (r"^norm(\d)", r"squeeze\1/bn"),
    (r"^block(\d)", r"fuse_block\1"),
    *_BLOCK,
)
