"""Loading weights; tensors come from the models' own weights or `torch_tensor`."""

import keras
import numpy as np
import pytest

from keras_lrseg import (
    ImageClassifier,
    LRFormerT,
    LRFormerTClassifier,
    SemanticSegmenter,
)
from keras_lrseg.backbones.lrformer import VARIANTS
from keras_lrseg.checkpoints import load_backbone_weights, load_model, load_weights
from keras_lrseg.decoders import LRDecoder
from keras_lrseg.layers import PointwiseConvolution
from keras_lrseg.models import lrformer
from tests.helpers import assert_same_weights, fill, numpy, refused
from tests.reference import load_state, to_torch_layout, torch_variables
from tests.tiny import TINY, filled, tiny_backbone, tiny_segmenter


@pytest.fixture(scope="module")
def source():
    return filled(tiny_segmenter)


@pytest.fixture(scope="module")
def _target():
    return filled(tiny_segmenter)


@pytest.fixture
def target(_target):
    """A model like the source, with other weights."""
    return fill(_target, seed=1)


@pytest.fixture(scope="module")
def state(source):
    return state_of(source)


def state_of(model):
    """The model's weights as a published checkpoint holds them."""
    state = {}
    for key, variable in torch_variables(model).items():
        state[key] = np.ascontiguousarray(to_torch_layout(numpy(variable)))
        if key.endswith("running_var"):
            state[key.replace("running_var", "num_batches_tracked")] = np.array(7)
    return state


def save(state, path, wrap=lambda tensors: {"meta": {}, "state_dict": tensors}):
    """Write a state_dict as `.safetensors`, or as mmengine's `.pth`."""
    if path.suffix == ".safetensors":
        numpy_files = pytest.importorskip("safetensors.numpy")
        numpy_files.save_file(state, path)
    else:
        torch = pytest.importorskip("torch")
        tensors = {key: torch.from_numpy(array) for key, array in state.items()}
        torch.save(wrap(tensors), path)
    return path


@pytest.fixture
def _small_t(monkeypatch):
    """Makes LRFormerT as small as `tiny_segmenter`."""
    monkeypatch.setitem(VARIANTS, "T", TINY)
    monkeypatch.setitem(lrformer.DECODER_CHANNELS, "T", 8)


# --- Published checkpoints ------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.pth", "model.safetensors"])
@pytest.mark.usefixtures("_small_t")
def test_published_checkpoint_fills_every_weight(source, state, tmp_path, name):
    path = save(state, tmp_path / name)
    model = LRFormerT(7, weights=path, include_preprocessing=False)
    assert_same_weights(model, source)


@pytest.mark.parametrize("key", ["state_dict", "model", None])
def test_state_dict_may_be_bare_or_in_a_training_checkpoint(
    source, target, state, tmp_path, key
):
    def wrap(tensors):
        return {key: tensors, "epoch": 3} if key else tensors

    load_weights(target, save(state, tmp_path / "model.pth", wrap))
    assert_same_weights(target, source)


@pytest.mark.parametrize("name", ["model.pth", "model.safetensors"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_tensors_are_loaded(target, state, tmp_path, name, dtype):
    torch = pytest.importorskip("torch")
    tensors = {
        key: torch.from_numpy(array).to(getattr(torch, dtype))
        for key, array in state.items()
    }
    path = tmp_path / name
    if name.endswith(".pth"):
        torch.save(tensors, path)
    else:
        pytest.importorskip("safetensors.torch").save_file(tensors, path)
    load_weights(target, path)
    for key, variable in torch_variables(target).items():
        expected = tensors[key].float().numpy()
        np.testing.assert_array_equal(to_torch_layout(numpy(variable)), expected)


def test_batch_counts_are_not_needed(source, target, state):
    state = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    assert_same_weights(load_state(target, state), source)


KEY = "backbone.block3.1.attn.q.0.weight"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state.pop(KEY), ["Missing", KEY]),
        (lambda state: state.update(extra=np.ones(3)), ["Not used", "extra"]),
        (
            lambda state: state.update({KEY: np.ones((8, 9))}),
            ["Of another shape", KEY, "(9, 8)", "(8, 8)"],
        ),
    ],
    ids=["missing", "unused", "another shape"],
)
@pytest.mark.parametrize("name", ["model.pth", "model.safetensors"])
def test_one_key_that_does_not_fit_is_named(
    target, state, tmp_path, name, change, words
):
    state = dict(state)
    change(state)
    path = save(state, tmp_path / name)
    with refused(path, *words, model=target):
        load_weights(target, path)


def test_checkpoint_of_another_variant_is_refused(target):
    deeper = filled(lambda: tiny_segmenter(backbone=tiny_backbone(depths=(1, 1, 3, 1))))
    with refused("another variant", "backbone.block3.2", model=target):
        load_state(target, state_of(deeper))


def test_checkpoint_with_other_classes_says_what_to_type(target):
    other = state_of(filled(tiny_segmenter, num_classes=5))
    words = ("5 classes", "7", "num_classes=5", "reset_head=True")
    with refused(*words, model=target):
        load_state(target, other)


def test_reset_head_loads_all_but_the_classifier(source, target):
    head = target.classifier.get_weights()
    load_state(target, state_of(filled(tiny_segmenter, num_classes=5)), reset_head=True)
    assert_same_weights(target.backbone, source.backbone)
    assert_same_weights(target.decoder, source.decoder)
    assert all(map(np.array_equal, target.classifier.get_weights(), head))


def test_reset_head_takes_the_rest_for_a_classifier_of_your_own(source, state):
    head = keras.layers.Conv2D(3, 3, padding="same", name="mine")
    target = fill(filled(tiny_segmenter, classifier=head), seed=1)
    load_state(target, state, reset_head=True)
    assert_same_weights(target.decoder, source.decoder)


def test_decoder_without_published_weights_is_named(source, state):
    class OtherDecoder(LRDecoder):
        pass

    decoder = OtherDecoder(8, 1, name="decoder")
    with refused("OtherDecoder", "LRDecoder", "backbone_weights="):
        load_state(filled(tiny_segmenter, decoder=decoder), state)


# --- Backbones alone ------------------------------------------------------------------


def save_backbone_state(source, folder):
    state = {
        key.removeprefix("backbone."): array
        for key, array in state_of(source).items()
        if key.startswith("backbone.")
    }
    return save(state, folder / "backbone.pth")


def save_keras(model, folder):
    model.save(folder / "model.keras")
    return folder / "model.keras"


def save_h5(model, folder):
    model.save_weights(folder / "model.weights.h5")
    return folder / "model.weights.h5"


def save_classifier(source, folder):
    backbone = filled(tiny_backbone, pool_size=7)
    backbone.set_weights(source.backbone.get_weights())
    head = PointwiseConvolution(8, name="head")
    return save_keras(ImageClassifier(backbone, 10, head), folder)


SOURCES = {
    "segmenter's .pth": lambda model, folder: save(state_of(model), folder / "s.pth"),
    "backbone's .pth": save_backbone_state,
    "segmenter's .keras": save_keras,
    "backbone's .keras": lambda model, folder: save_keras(model.backbone, folder),
    "backbone's .weights.h5": lambda model, folder: save_h5(model.backbone, folder),
    "classifier's .keras of another pool size": save_classifier,
}


@pytest.mark.parametrize("kind", SOURCES)
def test_backbone_alone_is_taken_from_a(source, target, tmp_path, kind):
    others = target.decoder.get_weights() + target.classifier.get_weights()
    load_backbone_weights(target, SOURCES[kind](source, tmp_path))
    assert_same_weights(target.backbone, source.backbone)
    after = target.decoder.get_weights() + target.classifier.get_weights()
    assert all(map(np.array_equal, after, others))


@pytest.mark.usefixtures("_small_t")
def test_every_model_takes_a_backbone(source, tmp_path):
    path = save_keras(source, tmp_path)
    for make in (LRFormerT, LRFormerTClassifier):
        model = make(num_classes=5, backbone_weights=path)
        assert_same_weights(model.backbone, source.backbone)


@pytest.mark.parametrize("kind", SOURCES)
def test_backbone_of_another_variant_is_refused(source, tmp_path, kind):
    deeper = filled(lambda: tiny_segmenter(backbone=tiny_backbone(depths=(1, 1, 3, 1))))
    path = SOURCES[kind](source, tmp_path)
    with refused(path, "fit this model", model=deeper):
        load_backbone_weights(deeper, path)


# --- Keras's own files ----------------------------------------------------------------


@pytest.mark.parametrize("save_model", [save_keras, save_h5])
def test_keras_file_fills_every_weight(source, target, tmp_path, save_model):
    load_weights(target, save_model(source, tmp_path))
    assert_same_weights(target, source)


@pytest.mark.usefixtures("_small_t")
def test_classifier_loads_its_own_file(tmp_path):
    source = fill(LRFormerTClassifier(5), seed=2)
    path = save_keras(source, tmp_path)
    assert_same_weights(LRFormerTClassifier(5, weights=path), source)


def test_keras_file_fits_a_model_whose_parts_have_other_automatic_names(tmp_path):
    def unnamed():
        return SemanticSegmenter(tiny_backbone(), LRDecoder(8), keras.layers.Dense(3))

    source, target = filled(unnamed), unnamed()
    assert source.decoder.name != target.decoder.name
    load_weights(target, save_keras(source, tmp_path))
    assert all(map(np.array_equal, target.get_weights(), source.get_weights()))


OTHERS = {
    "deeper": lambda: tiny_segmenter(backbone=tiny_backbone(depths=(1, 1, 3, 1))),
    "shallower": lambda: tiny_segmenter(backbone=tiny_backbone(depths=(1, 1, 1, 1))),
    "wider": lambda: tiny_segmenter(decoder=LRDecoder(16, name="decoder")),
    "other classes": lambda: tiny_segmenter(num_classes=5),
}


@pytest.mark.parametrize("save_model", [save_keras, save_h5])
@pytest.mark.parametrize("other", OTHERS)
def test_keras_file_of_another_model_is_refused(target, tmp_path, save_model, other):
    path = save_model(filled(OTHERS[other]), tmp_path)
    with refused(path, "does not fit this model", model=target):
        load_weights(target, path)


def test_keras_file_of_a_classifier_is_refused(source, target, tmp_path):
    path = save_classifier(source, tmp_path)
    with refused(path, "does not fit this model", model=target):
        load_weights(target, path)


def test_reset_head_of_a_keras_file_keeps_the_head(source, target, tmp_path):
    path = save_keras(filled(OTHERS["other classes"]), tmp_path)
    head = target.classifier.get_weights()
    load_weights(target, path, reset_head=True)
    assert_same_weights(target.backbone, source.backbone)
    assert_same_weights(target.decoder, source.decoder)
    assert all(map(np.array_equal, target.classifier.get_weights(), head))


def test_reset_head_of_a_keras_file_drops_nothing_but_the_head(target, tmp_path):
    deeper = filled(lambda: tiny_segmenter(backbone=tiny_backbone(depths=(1, 1, 3, 1))))
    with refused("does not fit", "model none", model=target):
        load_weights(target, save_keras(deeper, tmp_path), reset_head=True)


def test_reset_head_of_h5_is_refused_with_the_ways_out(source, target, tmp_path):
    path = save_h5(source, tmp_path)
    with refused("reset_head=True", ".keras", path, model=target):
        load_weights(target, path, reset_head=True)


@pytest.fixture
def trained():
    """A model like the source, with the state of an optimizer."""
    model = filled(tiny_segmenter)
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    return model


@pytest.mark.parametrize("save_model", [save_keras, save_h5])
def test_state_of_the_optimizer_is_left_out(
    source, target, trained, tmp_path, save_model
):
    load_weights(target, save_model(trained, tmp_path))
    assert_same_weights(target, source)


def test_model_is_loaded_without_its_training_state(trained, tmp_path):
    model = load_model(save_keras(trained, tmp_path))
    assert_same_weights(model, trained)
    assert not model.compiled


# --- Damage and malice ----------------------------------------------------------------


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "noise"])
@pytest.mark.parametrize("kind", ["pth", "safetensors", "keras", "weights.h5"])
def test_damaged_file_is_refused_in_one_line(source, target, tmp_path, kind, damage):
    path = tmp_path / f"model.{kind}"
    if damage == "truncated":
        if kind in ("pth", "safetensors"):
            save(state_of(source), path)
        else:
            (save_keras if kind == "keras" else save_h5)(source, tmp_path)
        content = path.read_bytes()
        content = content[: len(content) // 2]
    else:
        noise = np.random.default_rng(0).bytes(5000)
        content = {"empty": b"", "text": b"404: Not found", "noise": noise}[damage]
    path.write_bytes(content)
    with refused(path, model=target):
        load_weights(target, path)
    with refused(path, model=target):
        load_backbone_weights(target, path)


class Malice:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("format_", ["zip", "pickle"])
def test_pickle_that_would_run_code_is_refused_and_does_not(target, tmp_path, format_):
    torch = pytest.importorskip("torch")
    made, path = tmp_path / "made", tmp_path / "model.pth"
    content = {"state_dict": {"weight": torch.ones(3)}, "meta": Malice(made)}
    torch.save(content, path, _use_new_zipfile_serialization=format_ == "zip")
    with refused(path, "could run code", "open", model=target):
        load_weights(target, path)
    assert not made.exists()
    torch.load(path, weights_only=False)
    assert made.exists()  # It would have.


def test_keras_file_with_code_is_refused_and_does_not_run_it(target, tmp_path):
    made = tmp_path / "made"
    name = str(made)  # A string survives in the file, as part of the function.
    images = keras.Input((None, None, 3))
    layer = keras.layers.Lambda(lambda x: (open(name, "w").close(), x)[1])
    path = save_keras(keras.Model(images, layer(images)), tmp_path)
    made.unlink()  # The layer ran when the model was made.
    with refused(path, model=target):
        load_weights(target, path)
    assert not made.exists()
