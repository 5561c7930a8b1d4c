"""EfficientFormerV2 in plain PyTorch, as a backbone.

"Rethinking Vision Transformers for MobileNet Size and Speed", Li et al., ICCV 2023
(https://arxiv.org/abs/2212.08059). The ``state_dict`` keys are those of OffSeg's
checkpoints: its attention biases are tables for images of 512x512 pixels, resized for
others. Tensors are (B, C, H, W).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from .modules import resize

HEADS = 8


@dataclass(frozen=True)
class Config:
    """Sizes of a variant; a ratio of the feed-forward for each block."""

    dims: tuple[int, ...]
    depths: tuple[int, int]  # of the first two stages, whose ratio is 4
    ratios: tuple[tuple[int, ...], tuple[int, ...]]  # of the last two
    attention: int  # blocks with attention at the end of each of those


VARIANTS = {
    "s1": Config(
        (32, 48, 120, 224),
        (3, 3),
        ((4,) * 2 + (3,) * 4 + (4,) * 3, (4,) * 2 + (3,) * 2 + (4,) * 2),
        2,
    ),
    "s2": Config(
        (32, 64, 144, 288),
        (4, 4),
        ((4,) * 2 + (3,) * 6 + (4,) * 4, (4,) * 2 + (3,) * 4 + (4,) * 2),
        4,
    ),
    "l": Config(
        (40, 80, 192, 384),
        (5, 5),
        ((4,) * 4 + (3,) * 7 + (4,) * 4, (4,) * 3 + (3,) * 4 + (4,) * 3),
        6,
    ),
}


def conv_norm(dim_in, dim, size=1, stride=1, groups=1):
    conv = nn.Conv2d(dim_in, dim, size, stride, size // 2, groups=groups)
    return nn.Sequential(conv, nn.BatchNorm2d(dim))


def layer_scale(dim):
    return nn.Parameter(torch.full((dim, 1, 1), 1e-5))


class PositionBias(nn.Module):
    """A learnt bias for each head and distance of a query from a key."""

    def __init__(self, side, stride=1):
        super().__init__()
        self.attention_biases_seg = nn.Parameter(torch.zeros(HEADS, side * side))
        keys = torch.arange(side)
        distance = (keys[::stride, None] - keys).abs()
        index = distance[:, None, :, None] * side + distance[None, :, None, :]
        index = index.flatten(2).flatten(0, 1)  # (queries, keys)
        self.register_buffer("index", index, persistent=False)

    def bias(self, shape):
        """The table for `shape`, (queries, keys): (1, heads, queries, keys)."""
        table = self.attention_biases_seg[:, self.index][None]
        if table.shape[2:] == shape:
            return table
        return F.interpolate(table, shape, mode="bicubic", align_corners=False)


def split_heads(x):
    return x.flatten(2).unflatten(1, (HEADS, -1)).mT  # (B, heads, N, d)


def merge_heads(x, size):
    return x.mT.flatten(1, 2).unflatten(2, size)  # (B, heads * d, H, W)


class Attention(PositionBias):
    """Attention with talking heads, on a map halved if the stride is 2."""

    def __init__(self, dim, side, stride=1):
        super().__init__(side // stride)
        self.stride_conv = nn.Identity()
        if stride > 1:
            self.stride_conv = conv_norm(dim, dim, 3, stride, groups=dim)
        self.stride = stride
        width = HEADS * 128
        self.q = conv_norm(dim, HEADS * 32)
        self.k = conv_norm(dim, HEADS * 32)
        self.v = conv_norm(dim, width)
        self.v_local = conv_norm(width, width, 3, groups=width)
        self.talking_head1 = nn.Conv2d(HEADS, HEADS, 1)
        self.talking_head2 = nn.Conv2d(HEADS, HEADS, 1)
        self.proj = nn.Sequential(nn.GELU(), *conv_norm(width, dim))

    def forward(self, x):
        full_size = x.shape[2:]
        x = self.stride_conv(x)
        v = self.v(x)
        q, k, values = (split_heads(t) for t in (self.q(x), self.k(x), v))
        scores = q @ (k.mT * 32**-0.5)  # (B, heads, N, N)
        scores = self.talking_head1(scores + self.bias(scores.shape[2:]))
        scores = self.talking_head2(scores.softmax(dim=3))
        y = merge_heads(scores @ values, x.shape[2:]) + self.v_local(v)
        return self.proj(resize(y, full_size) if self.stride > 1 else y)


class Query(nn.Module):
    """Every second pixel plus a strided depthwise convolution, projected."""

    def __init__(self, dim, width):
        super().__init__()
        self.local = nn.Sequential(nn.Conv2d(dim, dim, 3, 2, 1, groups=dim))
        self.proj = conv_norm(dim, width)

    def forward(self, x):
        return self.proj(self.local(x) + x[:, :, ::2, ::2])


class AttentionDownsample(PositionBias):
    """Attention of every second pixel to all of them."""

    def __init__(self, dim_in, dim, side):
        super().__init__(side, stride=2)
        width = HEADS * 64
        self.q = Query(dim_in, HEADS * 16)
        self.k = conv_norm(dim_in, HEADS * 16)
        self.v = conv_norm(dim_in, width)
        self.v_local = conv_norm(width, width, 3, 2, groups=width)
        self.proj = nn.Sequential(nn.GELU(), *conv_norm(width, dim))

    def forward(self, x):
        v = self.v(x)
        local = self.v_local(v)
        q, k, v = (split_heads(t) for t in (self.q(x), self.k(x), v))
        scores = q @ (k.mT * 16**-0.5)  # (B, heads, N / 4, N)
        scores = scores + self.bias(scores.shape[2:])
        y = merge_heads(scores.softmax(dim=3) @ v, local.shape[2:])
        return self.proj(y + local)


class FeedForward(nn.Module):
    """1x1, depthwise and 1x1 convolution, each with a BatchNorm, GELUs between."""

    def __init__(self, dim, ratio):
        super().__init__()
        width = dim * ratio
        self.fc1 = nn.Conv2d(dim, width, 1)
        self.norm1 = nn.BatchNorm2d(width)
        self.mid = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.mid_norm = nn.BatchNorm2d(width)
        self.fc2 = nn.Conv2d(width, dim, 1)
        self.norm2 = nn.BatchNorm2d(dim)

    def forward(self, x):
        x = F.gelu(self.norm1(self.fc1(x)))
        x = F.gelu(self.mid_norm(self.mid(x)))
        return self.norm2(self.fc2(x))


class Block(nn.Module):
    """Attention, in some blocks, and feed-forward with layer scale and residual."""

    def __init__(self, dim, ratio, attention=None):
        super().__init__()
        self.token_mixer = attention
        if attention is not None:
            self.layer_scale_1 = layer_scale(dim)
        self.mlp = FeedForward(dim, ratio)
        self.layer_scale_2 = layer_scale(dim)

    def forward(self, x):
        if self.token_mixer is not None:
            x = x + self.layer_scale_1 * self.token_mixer(x)
        return x + self.layer_scale_2 * self.mlp(x)


class Downsample(nn.Module):
    """Strided 3x3 convolution between two stages."""

    def __init__(self, dim_in, dim):
        super().__init__()
        self.proj, self.norm = conv_norm(dim_in, dim, 3, 2)

    def forward(self, x):
        return self.norm(self.proj(x))


class DownsampleWithAttention(nn.Module):
    """The same beside an attention that downsamples."""

    def __init__(self, dim_in, dim, side):
        super().__init__()
        self.conv, self.bn = conv_norm(dim_in, dim, 3, 2)
        self.attn = AttentionDownsample(dim_in, dim, side)

    def forward(self, x):
        return self.attn(x) + self.bn(self.conv(x))


class EfficientFormer(nn.Module):
    """Returns the outputs of four stages at strides 4, 8, 16 and 32."""

    def __init__(self, variant):
        super().__init__()
        config = VARIANTS[variant]
        dims, ratios = config.dims, [(4,) * n for n in config.depths]
        self.patch_embed = nn.Sequential(
            *conv_norm(3, dims[0] // 2, 3, 2),
            nn.GELU(),
            *conv_norm(dims[0] // 2, dims[0], 3, 2),
            nn.GELU(),
        )
        network = []
        for i, (dim, stage) in enumerate(
            zip(dims, (*ratios, *config.ratios), strict=True)
        ):
            side = 512 // 2 ** (i + 2)
            if i == 3:
                network.append(DownsampleWithAttention(dims[2], dim, 2 * side))
            elif i:
                network.append(Downsample(dims[i - 1], dim))
            blocks = []
            for j, ratio in enumerate(stage):
                attend = i > 1 and j >= len(stage) - config.attention
                attention = Attention(dim, side, 4 - i) if attend else None
                blocks.append(Block(dim, ratio, attention))
            network.append(nn.Sequential(*blocks))
        self.network = nn.ModuleList(network)

    def forward(self, x):
        x, features = self.patch_embed(x), []
        for i, layer in enumerate(self.network):
            x = layer(x)
            if i % 2 == 0:
                features.append(x)
        return features
