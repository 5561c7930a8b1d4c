"""OffSeg in plain PyTorch: EfficientFormerV2, FreqFusion and Offset Learning.

"Revisiting Efficient Semantic Segmentation: Learning Offsets for Better Spatial and
Class Feature Alignment", ICCV 2025; FreqFusion from "Frequency-aware Feature Fusion for
Dense Image Prediction", Chen et al., TPAMI 2024 (https://arxiv.org/abs/2408.12879). The
``state_dict`` keys are those of OffSeg's checkpoints. Tensors are (B, C, H, W).
"""

import torch
import torch.nn.functional as F
from torch import nn

from .efficientformer import VARIANTS, EfficientFormer
from .modules import conv_module
from .offset_learning import OffsetLearning

GROUPS = 4  # of channels that are resampled and concatenated together
HEADS = {  # variant: backbone, widths of the head's four levels
    "t": ("s1", (32, 32, 64, 128)),
    "b": ("s2", (32, 64, 128, 256)),
    "l": ("l", (32, 64, 128, 256)),
}


def shifted(x, size, dilation=1):
    """The size·size maps of which the i-th holds each pixel's i-th neighbour."""
    reach = dilation * (size // 2)
    height, width = x.shape[2:]
    x = F.pad(x, (reach,) * 4)
    for top in range(0, 2 * reach + 1, dilation):
        for left in range(0, 2 * reach + 1, dilation):
            yield x[:, :, top : top + height, left : left + width]


def carafe(x, kernels):
    """Sum the neighbours of each pixel with weights of its own.

    Kernels (B, k², s·H, s·W); with s = 2 the four output pixels of an input pixel
    share its neighbours. As k² multiply-adds of shifted maps, several times faster on
    a CPU than with `unfold`, which copies the map k² times.
    """
    scale = kernels.shape[2] // x.shape[2]
    size = int(kernels.shape[1] ** 0.5)
    kernels = F.pixel_unshuffle(kernels, scale)
    kernels = kernels.unflatten(1, (size * size, 1, -1))  # (B, k², 1, s², H, W)
    y = x.new_zeros(())
    for i, neighbour in enumerate(shifted(x, size)):
        y = torch.addcmul(y, neighbour[:, :, None], kernels[:, i])  # (B, C, s², H, W)
    return F.pixel_shuffle(y.flatten(1, 2), scale)


def similarity(x):
    """Cosine similarity with the 8 pixels around at a distance of 2."""
    x = F.normalize(x, dim=1, eps=1e-8)
    maps = [(x * y).sum(1, keepdim=True) for y in shifted(x, 3, dilation=2)]
    return torch.cat(maps[:4] + maps[5:], dim=1)  # (B, 8, H, W)


class Sampler(nn.Module):
    """Moves each pixel of a map to where its neighbours are more alike."""

    def __init__(self, dim):
        super().__init__()
        outputs = 2 * GROUPS
        self.offset = nn.Conv2d(8, 4 * outputs, 3, padding=1)
        self.direct_scale = nn.Conv2d(dim, 4 * outputs, 3, padding=1)
        self.hr_offset = nn.Conv2d(8, outputs, 3, padding=1)
        self.hr_direct_scale = nn.Conv2d(dim, outputs, 3, padding=1)
        self.norm_hr = nn.GroupNorm(dim // 8, dim)
        self.norm_lr = nn.GroupNorm(dim // 8, dim)

    def forward(self, high, low, x):
        """Resample x (B, C, H, W), guided by (B, D, H, W) and (B, D, H/2, W/2)."""
        high, low = self.norm_hr(high), self.norm_lr(low)
        offset = F.pixel_shuffle(self.offset(similarity(low)), 2)
        offset = offset + self.hr_offset(similarity(high))
        scale = F.pixel_shuffle(self.direct_scale(low), 2)
        scale = (scale + self.hr_direct_scale(high)).sigmoid()
        return resample(x, 2 * offset * scale)


def resample(x, offset):
    """Read x at each pixel plus an offset (B, x and y of each group, H, W)."""
    batch, _, height, width = x.shape
    offset = offset.view(batch, 2, GROUPS, height, width)
    offset = offset.permute(0, 2, 3, 4, 1).flatten(0, 1)  # (B * groups, H, W, 2)
    rows, columns = (torch.arange(n, device=x.device) for n in (height, width))
    pixels = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=2)
    size = torch.tensor([width, height], device=x.device)
    grid = (2 * (pixels + offset) + 1) / size - 1
    x = x.reshape(batch * GROUPS, -1, height, width)
    y = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    return y.view(batch, -1, height, width)


class FreqFusion(nn.Module):
    """Low-pass and high-pass filters, and resampling, in front of a fusion."""

    def __init__(self, high_dim, low_dim):
        super().__init__()
        dim = (high_dim + low_dim) // 4
        self.hr_channel_compressor = nn.Conv2d(high_dim, dim, 1)
        self.lr_channel_compressor = nn.Conv2d(low_dim, dim, 1)
        self.content_encoder = nn.Conv2d(dim, 25, 3, padding=1)  # low-pass kernels
        self.content_encoder2 = nn.Conv2d(dim, 9, 3, padding=1)  # high-pass kernels
        self.dysampler = Sampler(dim)

    def forward(self, high, low):
        """Return (B, ·, H, W) of the high and the low-resolution map."""
        fine = self.hr_channel_compressor(high)
        coarse = self.lr_channel_compressor(low)
        high_pass = self.content_encoder2(fine)
        fine = 2 * fine - carafe(fine, high_pass.softmax(dim=1))
        low_pass = self.content_encoder(fine)
        up = carafe(self.content_encoder(coarse), low_pass.softmax(dim=1))
        kernels = (low_pass + up).softmax(dim=1)
        high_pass = high_pass + carafe(self.content_encoder2(coarse), kernels)
        high = 2 * high - carafe(high, high_pass.softmax(dim=1))
        return high, self.dysampler(fine, coarse, carafe(low, kernels))


class OffSegHead(nn.Module):
    """Fuses four levels by FreqFusion; returns logits at the stride of the first."""

    def __init__(self, dims, widths, dim, num_classes):
        super().__init__()
        levels = zip(dims, widths, strict=True)
        self.pre = nn.ModuleList([conv_module(*level, "gn") for level in levels])
        *high_widths, low_dim = widths
        fusions = []
        for width in reversed(high_widths):
            fusions.append(FreqFusion(width, low_dim))
            low_dim += width
        self.freqfusions = nn.ModuleList(fusions)
        self.align = conv_module(low_dim, dim, "gn")
        self.offset_learning = OffsetLearning(dim, num_classes)

    def forward(self, features):
        levels = zip(self.pre, features, strict=True)
        *levels, x = [conv(feature) for conv, feature in levels]
        for fuse in self.freqfusions:
            x = concatenate(*fuse(levels.pop(), x))
        return self.offset_learning(self.align(x))


def concatenate(*maps):
    """Concatenate the channels of maps group by group."""
    maps = [x.unflatten(1, (GROUPS, -1)) for x in maps]
    return torch.cat(maps, dim=2).flatten(1, 2)


class OffSeg(nn.Module):
    """Images (B, 3, H, W), sizes multiples of 32, to logits at stride 4."""

    def __init__(self, variant, num_classes):
        super().__init__()
        backbone, widths = HEADS[variant]
        self.backbone = EfficientFormer(backbone)
        dims = VARIANTS[backbone].dims
        self.decode_head = OffSegHead(dims, widths, 256, num_classes)

    def forward(self, images):
        return self.decode_head(self.backbone(images))
