"""Parameters and multiply-accumulates of a model at one image size."""

import collections
import contextlib
import dataclasses
import json
import math
import warnings

import keras

from keras_lrseg.backbones.inputs import check_images
from keras_lrseg.layers import DepthwiseConvolution, PointwiseConvolution

CONVOLUTIONS = (
    keras.layers.Conv2D,
    keras.layers.DepthwiseConv2D,
    DepthwiseConvolution,
    PointwiseConvolution,
)


@dataclasses.dataclass(frozen=True)
class Profile:
    """What a model costs at one image size, batch 1.

    Args:
        params: trainable and frozen weights; the statistics of batch norms are none.
        flops: multiply-accumulates of convolutions, linear maps and attention products.
            Pooling, resizing, norms and activations are left out; so is, as in
            LRFormer's paper, what makes logits per class of classified masks.
        conv_flops: those of convolutions alone.
        attention_flops: those of the products that are no layer of their own:
            attention, Offset Learning, matrix factorisation, reassembly.
        published_flops: `flops` as the authors' code multiplies, where this library
            takes a cheaper order.
        activations: values that the multiplying layers give, which training keeps.
        parts: the same of backbone, decoders, head and classifier, by name.
    """

    params: int
    flops: int
    conv_flops: int
    attention_flops: int
    published_flops: int
    activations: int
    parts: dict[str, "Profile"] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        lines = [
            f"{'':13} {'params':>10} {'FLOPs':>10} {'convolutions':>13} "
            f"{'attention':>10} {'as published':>13}"
        ]
        for name, part in {**self.parts, "total": self}.items():
            lines.append(
                f"{name:13} {part.params / 1e6:8.3f} M {part.flops / 1e9:8.2f} G "
                f"{part.conv_flops / 1e9:11.2f} G {part.attention_flops / 1e9:8.3f} G "
                f"{part.published_flops / 1e9:11.2f} G"
            )
        return "\n".join(lines)

    def to_json(self) -> str:
        """One JSON object of plain integers."""
        return json.dumps(dataclasses.asdict(self))


def profile(model: keras.Model, size: tuple[int, int]) -> Profile:
    """Count a model's parameters and FLOPs for one RGB image.

    The model is traced on shapes alone; nothing is computed.

    Args:
        model: a segmenter or classifier of this library, or any Keras model made of
            convolutions, linear maps and layers that have `attention_flops`, a method
            from the input's shape to the products that no inner layer makes (and
            `published_flops` where the paper makes more of them).
        size: (height, width) of the image in pixels.

    Warns of layers with a kernel that it cannot count, and names them.

    Raises:
        ValueError: if the size is below that which this library's models take.
    """
    image = keras.KerasTensor((1, *size, 3), "float32")
    parts = getattr(model, "parts", {})
    if parts:
        check_images(image)  # before Keras, which wraps what is raised in `call`
    counts = _Counts()
    with counts.recording(model):
        # Keras traces this layer's `call`, and so every inner layer, on shapes alone.
        _Traced(model, counts).compute_output_spec(image)
    parts = {name: counts.profile(part) for name, part in parts.items()}
    unknown = {
        type(layer).__name__
        for layer in _all_layers(model)
        if not _multiplies(layer)
        and any(v.name.endswith("kernel") for v in layer._trainable_variables)
    }
    if unknown:
        warnings.warn(
            f"Not counted: {', '.join(sorted(unknown))}. A layer that multiplies needs "
            "`attention_flops`.",
            stacklevel=2,
        )
    return dataclasses.replace(counts.profile(model), parts=parts)


def count_params(model) -> int:
    """Number of weights without the statistics of batch norms and preprocessing."""
    statistics = (keras.layers.BatchNormalization, keras.layers.Normalization)
    left_out = {
        id(v)
        for layer in _all_layers(model)
        if isinstance(layer, statistics)
        for v in layer.non_trainable_variables
        if v.name in ("moving_mean", "moving_variance", "mean", "variance", "count")
    }
    return sum(math.prod(v.shape) for v in model.weights if id(v) not in left_out)


class _Traced(keras.layers.Layer):
    """Hides `compute_output_shape`, so that Keras traces the model's `call`."""

    def __init__(self, model, counts):
        super().__init__()
        self.model = model
        self.counts = counts

    def call(self, images):
        self.counts.clear()  # on PyTorch Keras may try twice
        return self.model(images, training=False)


class _Counts:
    """Multiply-accumulates of each layer that ran while recording."""

    def __init__(self):
        self.of_layer = collections.Counter()
        self.published = collections.Counter()
        self.values = collections.Counter()

    def clear(self):
        """Forget what has been counted."""
        for counter in vars(self).values():
            counter.clear()

    @contextlib.contextmanager
    def recording(self, model):
        """Wrap the `call` of the layers that multiply, and unwrap them again."""
        counted = [layer for layer in _all_layers(model) if _multiplies(layer)]
        for layer in counted:
            layer.call = self._wrapped(layer, layer.call)
        try:
            yield
        finally:
            for layer in counted:
                del layer.call

    def _wrapped(self, layer, call):
        def record(x, *args, **kwargs):
            y = call(x, *args, **kwargs)
            self._add(layer, x, y)
            return y

        return record

    def _add(self, layer, x, y):
        if hasattr(layer, "attention_flops"):
            shape = keras.tree.map_structure(lambda tensor: tuple(tensor.shape), x)
            flops = layer.attention_flops(shape)
            published = getattr(layer, "published_flops", layer.attention_flops)(shape)
        else:
            flops = published = math.prod(y.shape) * _products_per_output(layer)
        self.of_layer[id(layer)] += flops
        self.published[id(layer)] += published
        outputs = [math.prod(tensor.shape) for tensor in keras.tree.flatten(y)]
        self.values[id(layer)] += sum(outputs)

    def profile(self, model) -> Profile:
        """The sums over the layers of a model or of a part of one."""
        flops = conv_flops = attention_flops = published_flops = activations = 0
        for layer in _all_layers(model):
            n = self.of_layer[id(layer)]
            flops += n
            conv_flops += n if isinstance(layer, CONVOLUTIONS) else 0
            attention_flops += n if hasattr(layer, "attention_flops") else 0
            published_flops += self.published[id(layer)]
            activations += self.values[id(layer)]
        return Profile(
            count_params(model),
            flops,
            conv_flops,
            attention_flops,
            published_flops,
            activations,
        )


def _multiplies(layer):
    kinds = (*CONVOLUTIONS, keras.layers.Dense)
    return isinstance(layer, kinds) or hasattr(layer, "attention_flops")


def _products_per_output(layer) -> int:
    """Products that make one value of a convolution's or linear map's output."""
    if isinstance(layer, (DepthwiseConvolution, keras.layers.DepthwiseConv2D)):
        return math.prod(layer.kernel.shape[:2])
    return math.prod(layer.kernel.shape[:-1])


def _all_layers(model):
    """Every layer inside once; Keras has no public name for this."""
    return {id(layer): layer for layer in model._flatten_layers()}.values()
