"""SegNeXt in plain PyTorch, with a 1x1 convolution or Offset Learning at the end.

"SegNeXt: Rethinking Convolutional Attention Design for Semantic Segmentation", Guo et
al., NeurIPS 2022 (https://arxiv.org/abs/2209.08575). The ``state_dict`` keys are those
of the authors' checkpoints. The bases of the matrix factorisation are drawn once, not
at every call. Tensors are (B, C, H, W).
"""

import torch
import torch.nn.functional as F
from torch import nn

from .modules import conv_module, resize
from .offset_learning import OffsetLearning

DIMS = (32, 64, 160, 256)  # SegNeXt-T
DEPTHS = (3, 3, 5, 2)
MLP_RATIOS = (8, 8, 4, 4)
STRIPS = (7, 11, 21)  # lengths of the pairs of strip convolutions


def depthwise(dim, rows, columns):
    padding = (rows // 2, columns // 2)
    return nn.Conv2d(dim, dim, (rows, columns), padding=padding, groups=dim)


class SpatialGate(nn.Module):
    """Multiplies the input by a sum of depthwise convolutions of several sizes."""

    def __init__(self, dim):
        super().__init__()
        self.conv0 = depthwise(dim, 5, 5)
        for i, length in enumerate(STRIPS):
            self.add_module(f"conv{i}_1", depthwise(dim, 1, length))
            self.add_module(f"conv{i}_2", depthwise(dim, length, 1))
        self.conv3 = nn.Conv2d(dim, dim, 1)

    def forward(self, x):
        y = total = self.conv0(x)
        for i in range(len(STRIPS)):
            strip = self.get_submodule(f"conv{i}_1")(y)
            total = total + self.get_submodule(f"conv{i}_2")(strip)
        return self.conv3(total) * x


class Attention(nn.Module):
    """1x1 convolution, GELU, spatial gate and 1x1 convolution, with a residual."""

    def __init__(self, dim):
        super().__init__()
        self.proj_1 = nn.Conv2d(dim, dim, 1)
        self.spatial_gating_unit = SpatialGate(dim)
        self.proj_2 = nn.Conv2d(dim, dim, 1)

    def forward(self, x):
        return x + self.proj_2(self.spatial_gating_unit(F.gelu(self.proj_1(x))))


class FeedForward(nn.Module):
    """1x1 convolution, depthwise convolution, GELU, 1x1 convolution."""

    def __init__(self, dim, ratio):
        super().__init__()
        self.fc1 = nn.Conv2d(dim, dim * ratio, 1)
        self.dwconv = depthwise(dim * ratio, 3, 3)
        self.fc2 = nn.Conv2d(dim * ratio, dim, 1)

    def forward(self, x):
        return self.fc2(F.gelu(self.dwconv(self.fc1(x))))


class Block(nn.Module):
    """Attention and feed-forward, each with BatchNorm, layer scale and residual."""

    def __init__(self, dim, ratio):
        super().__init__()
        self.layer_scale_1 = nn.Parameter(torch.full((dim,), 1e-2))
        self.layer_scale_2 = nn.Parameter(torch.full((dim,), 1e-2))
        self.norm1 = nn.BatchNorm2d(dim)
        self.attn = Attention(dim)
        self.norm2 = nn.BatchNorm2d(dim)
        self.mlp = FeedForward(dim, ratio)

    def forward(self, x):
        x = x + self.layer_scale_1[:, None, None] * self.attn(self.norm1(x))
        return x + self.layer_scale_2[:, None, None] * self.mlp(self.norm2(x))


class Stem(nn.Module):
    """Two 3x3 convolutions down to stride 4."""

    def __init__(self, dim):
        super().__init__()
        self.proj = nn.Sequential(
            nn.Conv2d(3, dim // 2, 3, stride=2, padding=1),
            nn.BatchNorm2d(dim // 2),
            nn.GELU(),
            nn.Conv2d(dim // 2, dim, 3, stride=2, padding=1),
            nn.BatchNorm2d(dim),
        )

    def forward(self, x):
        return self.proj(x)


class Downsample(nn.Module):
    """Strided 3x3 convolution between two stages."""

    def __init__(self, dim_in, dim):
        super().__init__()
        self.proj = nn.Conv2d(dim_in, dim, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(dim)

    def forward(self, x):
        return self.norm(self.proj(x))


class MSCAN(nn.Module):
    """Four stages; returns their outputs at strides 4, 8, 16 and 32."""

    def __init__(self, dims, depths):
        super().__init__()
        for i, (dim, depth) in enumerate(zip(dims, depths, strict=True)):
            embed = Downsample(dims[i - 1], dim) if i else Stem(dim)
            blocks = [Block(dim, MLP_RATIOS[i]) for _ in range(depth)]
            self.add_module(f"patch_embed{i + 1}", embed)
            self.add_module(f"block{i + 1}", nn.Sequential(*blocks))
            self.add_module(f"norm{i + 1}", nn.LayerNorm(dim))

    def forward(self, x):
        features = []
        for i in range(1, 5):
            x = self.get_submodule(f"patch_embed{i}")(x)
            x = self.get_submodule(f"block{i}")(x)
            x = self.get_submodule(f"norm{i}")(x.permute(0, 2, 3, 1))
            x = x.permute(0, 3, 1, 2)
            features.append(x)
        return features


class MatrixFactorisation(nn.Module):
    """Replaces (B, D, N) by a product of rank 16 near it, all non-negative."""

    def __init__(self, dim, rank=16, steps=7):
        super().__init__()
        self.steps = steps
        bases = F.normalize(torch.rand(1, dim, rank), dim=1)
        self.register_buffer("bases", bases, persistent=False)

    @staticmethod
    def update(factor, x, other):
        """One multiplicative step of `factor` towards x = factor · otherᵀ."""
        return factor * (x @ other) / (factor @ (other.mT @ other) + 1e-6)

    def forward(self, x):
        bases = self.bases  # (1, D, R)
        coefficients = (x.mT @ bases).softmax(dim=2)  # (B, N, R)
        for _ in range(self.steps):
            coefficients = self.update(coefficients, x.mT, bases)
            bases = self.update(bases, x, coefficients)
        coefficients = self.update(coefficients, x.mT, bases)
        return bases @ coefficients.mT  # (B, D, N)


class Hamburger(nn.Module):
    """Matrix factorisation between two 1x1 convolutions, with a residual."""

    def __init__(self, dim):
        super().__init__()
        self.ham_in = nn.Sequential()
        self.ham_in.add_module("conv", nn.Conv2d(dim, dim, 1))
        self.ham = MatrixFactorisation(dim)
        self.ham_out = conv_module(dim, dim, "gn")[:2]

    def forward(self, x):
        size = x.shape[2:]
        y = self.ham(F.relu(self.ham_in(x)).flatten(2))
        return F.relu(x + self.ham_out(y.unflatten(2, size)))


class LightHamHead(nn.Module):
    """Fuses the levels by Hamburger; returns logits at the stride of the first."""

    def __init__(self, dims, dim, num_classes, offset):
        super().__init__()
        self.squeeze = conv_module(sum(dims), dim, "gn")
        self.hamburger = Hamburger(dim)
        self.align = conv_module(dim, dim, "gn")
        if offset:
            self.offset_learning = OffsetLearning(dim, num_classes)
        else:
            self.conv_seg = nn.Conv2d(dim, num_classes, 1)
        self.offset = offset

    def forward(self, features):
        size = features[0].shape[2:]
        x = torch.cat([resize(x, size) for x in features], dim=1)
        x = self.align(self.hamburger(self.squeeze(x)))
        return self.offset_learning(x) if self.offset else self.conv_seg(x)


class SegNeXt(nn.Module):
    """SegNeXt-T: images (B, 3, H, W) to logits at stride 8."""

    def __init__(self, num_classes, offset):
        super().__init__()
        self.backbone = MSCAN(DIMS, DEPTHS)
        self.decode_head = LightHamHead(DIMS[1:], 256, num_classes, offset)

    def forward(self, images):
        return self.decode_head(self.backbone(images)[1:])
