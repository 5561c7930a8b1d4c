"""LRFormer in plain PyTorch: the peer of keras_lrseg's LRFormer in the speed benchmark.

"Low-Resolution Self-Attention for Semantic Segmentation", Wu et al., TPAMI 2025
(https://arxiv.org/abs/2310.05026). The ``state_dict`` keys are those of the authors'
checkpoints. Unlike theirs, this code takes images of any size. Weights start from
PyTorch's defaults. Tensors are (B, C, H, W), in channels-last memory throughout:
LayerNorm then needs no copy (contiguous memory took 1.4 times as long on a CPU).
"""

from collections import OrderedDict
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn


@dataclass(frozen=True)
class Config:
    """Sizes of a variant; the tuples hold one number per stage."""

    dims: tuple[int, ...]
    depths: tuple[int, ...]
    decoder_dim: int
    drop_path: float
    heads: tuple[int, ...] = (2, 4, 10, 16)
    pre_norm: tuple[int, ...] = ()  # blocks of stage 3 that start with a BatchNorm


MLP_RATIOS = (8, 8, 4, 4)
PYRAMID = (11, 8, 6, 4)  # key/value grids for a query grid of 16
VARIANTS = {
    "tiny_test": Config((24, 48, 96, 128), (1, 1, 2, 1), 64, 0.0, heads=(1, 2, 4, 4)),
    "t": Config((48, 96, 240, 384), (2, 2, 6, 3), 256, 0.1),
    "s": Config((64, 128, 320, 512), (3, 3, 12, 3), 384, 0.2),
    "b": Config((80, 160, 400, 512), (4, 4, 15, 8), 512, 0.4),
    "l": Config((96, 192, 480, 640), (4, 6, 18, 8), 640, 0.6),
    "xl": Config((128, 256, 640, 768), (4, 8, 22, 8), 768, 0.4, pre_norm=(7, 15)),
}


def grid_size(short, height, width):
    """Size of a pooling grid: `short` cells on the short side, the image's aspect."""
    if width >= height:
        return short, round(width * short / height + 0.001)
    return round(height * short / width + 0.001), short


def resize(x, size):
    return F.interpolate(x, size, mode="bilinear", align_corners=False)


def tokens(x):
    return x.flatten(2).transpose(1, 2)  # (B, H*W, C)


def depthwise(dim):
    return nn.Conv2d(dim, dim, 3, padding=1, groups=dim)


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of (B, C, H, W)."""

    def __init__(self, dim):
        super().__init__(dim, eps=1e-6)

    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Pointwise(nn.Conv2d):
    """1x1 convolution of channels-last tokens, (B, N, C) to (B, N, C)."""

    def __init__(self, dim):
        super().__init__(dim, dim, 1)

    def forward(self, x):
        return F.linear(x, self.weight.flatten(1), self.bias)


class LowResolutionAttention(nn.Module):
    """LRSA: pooled queries attend to a pooled pyramid, the result is upsampled."""

    def __init__(self, dim, heads, query_grid, q, kv):
        super().__init__()
        self.heads = heads
        self.query_grid = query_grid
        self.pyramid = [round(t * query_grid / 16 + 0.001) for t in PYRAMID]
        self.q = q
        self.kv = kv
        self.proj = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim)

    def split_heads(self, x):
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)  # (B, heads, N, d)

    def forward(self, x, d_convs=None):
        size = x.shape[2:]
        grid = grid_size(self.query_grid, *size)
        q = tokens(F.adaptive_avg_pool2d(x, grid))  # (B, h*w, C)
        levels = [F.adaptive_avg_pool2d(x, grid_size(n, *size)) for n in self.pyramid]
        if d_convs is not None:
            levels = [p + conv(p) for p, conv in zip(levels, d_convs, strict=True)]
        levels = torch.cat([tokens(p) for p in levels], dim=1)  # (B, M, C)
        k, v = self.kv(self.norm(levels)).chunk(2, dim=2)  # (B, M, C)
        q, k, v = (self.split_heads(t) for t in (self.q(q), k, v))
        out = F.scaled_dot_product_attention(q, k, v)  # (B, heads, h*w, d)
        out = self.proj(out.transpose(1, 2).flatten(2))  # (B, h*w, C)
        out = out.unflatten(1, grid).permute(0, 3, 1, 2)  # (B, C, h, w)
        return resize(out, size)  # (B, C, H, W)


class FeedForward(nn.Module):
    """1x1 convolution, GELU, residual depthwise convolution, 1x1 convolution."""

    def __init__(self, dim, ratio):
        super().__init__()
        self.fc1 = nn.Conv2d(dim, dim * ratio, 1)
        self.conv = depthwise(dim * ratio)
        self.fc2 = nn.Conv2d(dim * ratio, dim, 1)

    def forward(self, x):
        x = F.gelu(self.fc1(x))
        return self.fc2(self.conv(x).add_(x))  # in place: the widest tensor here


class Block(nn.Module):
    """Depthwise convolution, attention and feed-forward, each with a residual."""

    def __init__(
        self, dim, attn, ratio, norm, layer_scale=True, drop_path=0.0, pre_norm=False
    ):
        super().__init__()
        self.drop_path = drop_path
        self.layer_scale_1 = self.layer_scale_2 = None
        if layer_scale:
            self.layer_scale_1 = nn.Parameter(torch.full((dim,), 1e-6))
            self.layer_scale_2 = nn.Parameter(torch.full((dim,), 1e-6))
        self.pre_norm = nn.BatchNorm2d(dim) if pre_norm else nn.Identity()
        self.norm1 = norm(dim)
        self.attn = attn
        self.norm2 = norm(dim)
        self.mlp = FeedForward(dim, ratio)
        self.cpe = depthwise(dim)

    def add(self, x, y, scale):
        if scale is not None:
            y = y * scale[:, None, None]
        if self.training and self.drop_path:
            keep = 1 - self.drop_path
            y = y * (y.new_empty(len(y), 1, 1, 1).bernoulli_(keep) / keep)
        return x + y

    def forward(self, x, d_convs=None):
        x = self.pre_norm(x)
        x = self.cpe(x).add_(x)
        x = self.add(x, self.attn(self.norm1(x), d_convs), self.layer_scale_1)
        return self.add(x, self.mlp(self.norm2(x)), self.layer_scale_2)


class Stem(nn.Module):
    """Four 3x3 convolutions down to stride 4."""

    def __init__(self, dim):
        super().__init__()
        layers, last = [], 3
        for width, stride in ((dim // 2, 2), (dim // 2, 1), (dim, 2)):
            layers += [
                nn.Conv2d(last, width, 3, stride, padding=1),
                nn.BatchNorm2d(width),
                nn.GELU(),
            ]
            last = width
        self.conv1 = nn.Sequential(*layers, nn.Conv2d(dim, dim, 3, padding=1))
        self.norm = LayerNorm2d(dim)

    def forward(self, x):
        return self.norm(self.conv1(x))


class Downsample(nn.Module):
    """Strided 3x3 convolution between two stages."""

    def __init__(self, dim_in, dim):
        super().__init__()
        self.proj = nn.Conv2d(dim_in, dim, 3, stride=2, padding=1)
        self.norm = LayerNorm2d(dim)

    def forward(self, x):
        return self.norm(self.proj(x))


class Backbone(nn.Module):
    """Four stages; returns F1..F4 at strides 4, 8, 16 and 32."""

    def __init__(self, config):
        super().__init__()
        dims, depths = config.dims, config.depths
        embeds = [Stem(dims[0])]
        embeds += [Downsample(a, b) for a, b in pairwise(dims)]
        last = sum(depths) - 1
        rates = [config.drop_path * n / last for n in range(sum(depths))]
        for i, (dim, depth) in enumerate(zip(dims, depths, strict=True)):
            blocks = [
                Block(
                    dim,
                    self.attention(dim, config.heads[i]),
                    MLP_RATIOS[i],
                    LayerNorm2d,
                    layer_scale=i >= 2,
                    drop_path=rates.pop(0),
                    pre_norm=i == 2 and j in config.pre_norm,
                )
                for j in range(depth)
            ]
            # Shared by all blocks of the stage.
            d_convs = nn.ModuleList([depthwise(dim) for _ in PYRAMID])
            self.add_module(f"patch_embed{i + 1}", embeds[i])
            self.add_module(f"d_convs{i + 1}", d_convs)
            self.add_module(f"block{i + 1}", nn.ModuleList(blocks))

    @staticmethod
    def attention(dim, heads):
        q = nn.Sequential(nn.Linear(dim, dim))
        kv = nn.Sequential(nn.Linear(dim, 2 * dim))
        return LowResolutionAttention(dim, heads, 16, q, kv)

    def forward(self, x):
        features = []
        for i in range(1, 5):
            x = self.get_submodule(f"patch_embed{i}")(x)
            for block in self.get_submodule(f"block{i}"):
                x = block(x, self.get_submodule(f"d_convs{i}"))
            features.append(x)
        return features


class Decoder(nn.Module):
    """Fuses F2, F3 and F4 with two blocks; returns logits at stride 8."""

    def __init__(self, dims, dim, num_classes):
        super().__init__()
        self.conv_seg = nn.Conv2d(dim, num_classes, 1)
        self.dropout = nn.Dropout2d(0.1)
        self.squeeze1 = self.squeeze(sum(dims[1:]), dim)
        self.squeeze2 = self.squeeze(dim + dims[3], dim)
        self.fuse_block1 = Block(dim, self.attention(dim), 4, nn.BatchNorm2d)
        self.fuse_block2 = Block(dim, self.attention(dim), 4, nn.BatchNorm2d)

    @staticmethod
    def squeeze(dim_in, dim):
        conv = nn.Conv2d(dim_in, dim, 1, bias=False)
        layers = {"conv": conv, "bn": nn.BatchNorm2d(dim), "act": nn.ReLU()}
        return nn.Sequential(OrderedDict(layers))

    @staticmethod
    def attention(dim):
        kv = nn.Linear(dim, 2 * dim)
        return LowResolutionAttention(dim, 8, 32, Pointwise(dim), kv)

    def forward(self, features):
        _, f2, f3, f4 = features
        f3, f4 = (resize(f, f2.shape[2:]) for f in (f3, f4))
        x = self.fuse_block1(self.squeeze1(torch.cat([f2, f3, f4], dim=1)))
        x = self.fuse_block2(self.squeeze2(torch.cat([x, f4], dim=1)))
        return self.conv_seg(self.dropout(x))


class LRFormer(nn.Module):
    """Images (B, 3, H, W) to logits (B, num_classes, H/8, W/8), sizes rounded up."""

    def __init__(self, config, num_classes):
        super().__init__()
        self.backbone = Backbone(config)
        self.decode_head = Decoder(config.dims, config.decoder_dim, num_classes)

    def features(self, images):
        """F1..F4, the outputs of the four stages."""
        return self.backbone(images.contiguous(memory_format=torch.channels_last))

    def forward(self, images):
        return self.decode_head(self.features(images))


def lrformer(variant, num_classes=150):
    """LRFormer `variant`: "t", "s", "b", "l", "xl", or "tiny_test" of the fixtures."""
    if variant not in VARIANTS:
        raise ValueError(f"Expected one of {list(VARIANTS)}. Received: {variant!r}")
    model = LRFormer(VARIANTS[variant], num_classes)
    return model.to(memory_format=torch.channels_last)
