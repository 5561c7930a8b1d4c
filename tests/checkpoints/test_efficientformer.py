"""EfficientFormerV2 and OffSeg from every kind of published checkpoint."""

import functools
import gzip
import json

import numpy as np
import pytest

import keras_lrseg
from keras_lrseg import (
    EfficientFormerV2S0Classifier,
    EfficientFormerV2S1Classifier,
    ImageClassifier,
    LRFormerTClassifier,
    OffSegT,
    cli,
)
from keras_lrseg.backbones import EfficientFormerV2Backbone
from keras_lrseg.checkpoints import load_backbone_weights, load_weights
from keras_lrseg.checkpoints.classifiers import OFFSET
from keras_lrseg.checkpoints.efficientformer import BACKBONE
from keras_lrseg.checkpoints.offseg import DECODER
from keras_lrseg.layers import batch_norm
from tests.helpers import images, no_random_start, no_weights, numpy, refused, run
from tests.reference import (
    GOLDEN,
    load_state,
    manifest,
    torch_state,
    torch_tensor,
    torch_variables,
)
from tests.tiny import filled


def used_shapes(name):
    """Shapes by key of what the network uses, without ones and the axes' order."""
    parts = (("backbone.", BACKBONE), ("decode_head.", DECODER))
    shapes = {}
    for prefix, names in parts:
        tensors = {
            key.removeprefix(prefix): np.ones(shape)
            for key, shape in manifest(name).items()
            if key.startswith(prefix) and not key.endswith("num_batches_tracked")
        }
        used = names.used(tensors)
        used = OFFSET.used(used) if names is DECODER else used
        shapes |= {prefix + key: compact(array.shape) for key, array in used.items()}
    return shapes


def compact(shape):
    return sorted(n for n in shape if n > 1)


@pytest.mark.parametrize("variant", ["T", "B", "L"])
def test_names_and_shapes_are_those_of_the_published_segmenter(variant):
    with no_weights():
        model = getattr(keras_lrseg, f"OffSeg{variant}")(num_classes=150)
    variables = torch_variables(model, load_weights)
    actual = {key: compact(variable.shape) for key, variable in variables.items()}
    assert actual == used_shapes(f"offseg_{variant.lower()}")


# --- ImageNet classifiers -------------------------------------------------------------


def timm():
    return json.loads(
        gzip.decompress((GOLDEN / "timm_efficientformerv2_s0.json.gz").read_bytes())
    )


def timm_state():
    return {key: torch_tensor(key, shape) for key, shape in timm()["weights"]}


def original_state(classes=10):
    """As S1's original ImageNet checkpoint: without OffSeg's tables, with heads."""
    state = {
        key.removeprefix("backbone."): value
        for key, value in torch_state("offseg_t").items()
        if key.startswith("backbone.") and not key.endswith("_seg")
    }
    shapes = {f"norm.{leaf}": (224,) for leaf in ("weight", "bias", "running_mean")}
    shapes |= {"norm.running_var": (224,), "norm.num_batches_tracked": ()}
    for head in ("head", "dist_head"):
        shapes |= {f"{head}.weight": (classes, 224), f"{head}.bias": (classes,)}
    return state | {key: torch_tensor(key, shape) for key, shape in shapes.items()}


def small(make, *arguments, **settings):
    with no_random_start():
        return make(*arguments, **settings)


@functools.cache
def classifier():
    """The same one for all tests, which load it before they look."""
    return small(EfficientFormerV2S1Classifier, 10)


@functools.cache
def segmenter():
    return small(OffSegT, 5)


def tables(model):
    return [numpy(w) for w in model.backbone.weights if w.name == "attention_bias"]


def test_classifier_from_timm_gives_timms_logits():
    model = small(EfficientFormerV2S0Classifier, 10, include_preprocessing=False)
    load_state(model, timm_state())
    expected = np.array(timm()["logits"])
    actual = run(model, images(7, 224, 224, batch=2))
    assert abs(actual - expected).max() <= 3e-5 * expected.std()


def test_original_classifier_fills_every_weight():
    state = original_state()
    model = load_state(classifier(), state)
    kernel = (state["head.weight"] + state["dist_head.weight"]) / 2
    bias = (state["head.bias"] + state["dist_head.bias"]) / 2
    np.testing.assert_array_equal(numpy(model.classifier.kernel), kernel.T)
    np.testing.assert_array_equal(numpy(model.classifier.bias), bias)
    np.testing.assert_array_equal(numpy(model.head.gamma), state["norm.weight"])
    table = state["network.5.attn.attention_biases"]
    assert table.shape == (8, 196)
    assert any(np.array_equal(table, ours) for ours in tables(model))


def test_classifier_without_a_teacher_has_one_linear_map():
    state = {k: v for k, v in original_state().items() if not k.startswith("dist_")}
    model = load_state(classifier(), state)
    kernel = numpy(model.classifier.kernel)
    np.testing.assert_array_equal(kernel, state["head.weight"].T)


def test_classifier_for_other_classes_says_what_to_type_and_can_start_anew():
    model, state = classifier(), original_state(classes=7)
    words = ("7 classes", "num_classes=7", "reset_head=True")
    with refused(*words, model=model):
        load_state(model, state)
    before = model.classifier.get_weights()
    load_state(model, state, reset_head=True)
    assert all(map(np.array_equal, model.classifier.get_weights(), before))
    np.testing.assert_array_equal(numpy(model.head.gamma), state["norm.weight"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state.pop("norm.bias"), ["Missing", "head.bias"]),
        (lambda state: state.update(extra=np.ones(3)), ["Not used", "extra"]),
        (
            lambda state: state.update({"network.5.bn.bias": np.ones(3)}),
            ["Of another shape", "network.5.bn.bias"],
        ),
    ],
    ids=["missing", "unused", "another shape"],
)
def test_one_key_that_does_not_fit_is_named(change, words):
    state = original_state()
    change(state)
    model = classifier()
    with refused(*words, model=model):
        load_state(model, state)


def test_classifiers_and_segmenters_do_not_take_each_others_checkpoints():
    words = "an image classifier", "a segmenter that classifies pixels"
    with refused(*words):
        load_state(classifier(), torch_state("offseg_t"))
    with refused(*words):
        load_state(segmenter(), original_state())


def test_families_without_published_classifiers_are_named():
    with no_weights():
        model = LRFormerTClassifier(10)
    with refused("LRFormerBackbone", "EfficientFormerV2Backbone"):
        load_state(model, {"head.bias": np.ones(10)})


# --- A segmenter from an ImageNet classifier ------------------------------------------


def keys_of_backbone(model):
    return torch_variables(model, load_backbone_weights)


def backbone_tables(model):
    """The tables of attention biases by their keys in OffSeg's checkpoints."""
    variables = torch_variables(model, load_backbone_weights)
    return {k: numpy(v) for k, v in variables.items() if k.endswith("_seg")}


def test_segmenter_has_the_tables_of_a_segmenter():
    state = torch_state("offseg_t")
    model = load_state(segmenter(), state, load_backbone_weights)
    for key, table in backbone_tables(model).items():
        np.testing.assert_array_equal(table, state[f"backbone.{key}"])


@pytest.mark.parametrize("resolution", [512, 224])
def test_segmenter_takes_tables_of_imagenets_size_only_if_it_has_it(resolution):
    state = original_state()
    model = small(OffSegT, 5, resolution=resolution)
    load_state(model, state, load_backbone_weights)
    for key, table in backbone_tables(model).items():
        expected = state[key.removesuffix("_seg")]
        if resolution == 512:
            expected = np.zeros((8, 1024 if "network.5" in key else 256))
        np.testing.assert_array_equal(table, expected)
    kernel = model.backbone.get_layer("downsampling2").convolution.kernel
    expected = state["network.1.proj.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(numpy(kernel), expected)


def tiny_classifier(resolution):
    backbone = EfficientFormerV2Backbone(
        (8, 8, 8, 8),
        ((1,), (1,), (1,), (1,)),
        attention_blocks=1,
        resolution=resolution,
    )
    return ImageClassifier(backbone, 5, head=batch_norm(name="head"))


def test_backbone_from_a_keras_file_keeps_tables_of_another_size(tmp_path):
    source = filled(tiny_classifier, resolution=64)
    source.save(tmp_path / "source.keras")
    model = tiny_classifier(resolution=96)
    load_backbone_weights(model, tmp_path / "source.keras")
    values = {w.path: numpy(w) for w in source.backbone.weights}
    for weight in model.backbone.weights:
        is_table = weight.name == "attention_bias"
        expected = np.zeros(weight.shape) if is_table else values[weight.path]
        np.testing.assert_array_equal(numpy(weight), expected)
    with refused("attention_bias", model=model):  # A whole model must fit altogether.
        load_weights(model, tmp_path / "source.keras")


# --- The command ----------------------------------------------------------------------


def save(state, path):
    torch = pytest.importorskip("torch")
    tensors = {key: torch.from_numpy(np.asarray(v)) for key, v in state.items()}
    torch.save({"model": tensors}, path)
    return str(path)


def test_command_converts_an_image_classifier(tmp_path, capsys):
    source = save(timm_state(), tmp_path / "s0.pth")
    out = tmp_path / "s0.keras"
    name = "EfficientFormerV2S0Classifier"
    assert cli.main(["convert", name, source, str(out)]) == 0
    assert capsys.readouterr().out == f"{out}: {name} with 10 classes\n"
    model = keras_lrseg.checkpoints.load_model(out)
    assert (model.num_classes, model.name) == (10, "efficientformer_v2_s0_classifier")
    bias = numpy(model.classifier.bias)
    state = timm_state()
    np.testing.assert_array_equal(
        bias, (state["head.bias"] + state["head_dist.bias"]) / 2
    )


def test_command_says_which_kind_of_checkpoint_it_got(tmp_path, capsys):
    out = str(tmp_path / "x.keras")
    source = save(timm_state(), tmp_path / "s0.pth")
    assert cli.main(["convert", "OffSegT", source, out]) == 2
    assert "an image classifier, OffSegT is none" in capsys.readouterr().err
    heads = {"decode_head.conv_seg.bias": np.ones(5)}
    source = save(heads, tmp_path / "t.pth")
    assert cli.main(["convert", "EfficientFormerV2S0Classifier", source, out]) == 2
    words = "a segmenter of pixels, EfficientFormerV2S0Classifier"
    assert words in capsys.readouterr().err
