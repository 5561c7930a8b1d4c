"""Fill a model with the weights of a file, all of them or none."""

import pathlib
import tempfile
import zipfile

import h5py
import keras

from keras_lrseg.checkpoints import (
    classifiers,
    efficientformer,
    lrformer,
    offseg,
    segformer,
    segnext,
    swin,
)
from keras_lrseg.checkpoints.convert import Names, assign_state_dict
from keras_lrseg.checkpoints.files import read_state_dict, resolve

# The published names of each kind of backbone, decoder and classification layer.
NAMES = {
    "EfficientFormerV2Backbone": efficientformer.BACKBONE,
    "FreqFusionDecoder": offseg.DECODER,
    "LRFormerBackbone": lrformer.BACKBONE,
    "LRDecoder": lrformer.DECODER,
    "MSCANBackbone": segnext.BACKBONE,
    "HamburgerDecoder": segnext.DECODER,
    "MixTransformerBackbone": segformer.BACKBONE,
    "SegFormerDecoder": segformer.DECODER,
    "SwinBackbone": swin.BACKBONE,
    "PointwiseConvolution": classifiers.PIXEL,
    "OffsetLearning": classifiers.OFFSET,
}

# How a published image classifier is sorted into backbone, head and classifier.
IMAGE_CLASSIFIERS = {"EfficientFormerV2Backbone": efficientformer.classifier_state}

# Tables of positions: of a size of their own for each image size learnt from.
TABLES = ("attention_bias",)

# The tensors that tell how many classes a checkpoint has, by the classifier's name;
# None: an image classifier.
CLASSES = {
    "offset": "decode_head.offset_learning.mask_norm.bias",
    "pixel": "decode_head.conv_seg.bias",
    None: "head.bias",
}
CLASSIFIERS = ("decode_head.conv_seg.", "decode_head.offset_learning.", "classifier.")
# What a segmentation or classification checkpoint holds beside its backbone.
HEADS = ("decode_head.", "auxiliary_head.", "head.")


def load_weights(model, path, reset_head: bool = False) -> None:
    """Load the weights of a whole segmenter or image classifier.

    Args:
        model: a `SemanticSegmenter` or `ImageClassifier`.
        path: `.keras`, `.weights.h5`, `.pth`, `.safetensors`, or
            "hf://owner/repository/file".
        reset_head: leave the model's classifier as it is, for another set of classes.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged or belongs to another model. The model is
            unchanged then.
    """
    path = resolve(path)
    head = {id(v) for v in model.classifier.variables} if reset_head else set()
    if path.name.endswith(".keras"):
        _copy_keras(load_model(path), model, path, head)
    elif path.name.endswith(".weights.h5"):
        _load_h5(model, path, reset_head)
    else:
        _load_state_dict(model, read_state_dict(path), path, head)


def load_backbone_weights(model, path) -> None:
    """Load the weights of a model's backbone alone.

    Args:
        model: model with a `backbone`.
        path: as in `load_weights`: a segmenter, a classifier or a bare backbone (a
            `.weights.h5` file: a bare backbone). What the file holds beside the
            backbone is left out. Pool sizes may differ; tables of attention biases
            for another image size are left as they are in the model.

    Raises:
        As `load_weights`.
    """
    path = resolve(path)
    if path.name.endswith(".keras"):
        source = load_model(path)
        source = getattr(source, "backbone", source)
        _copy_keras(source, model.backbone, path, other_tables=True)
    elif path.name.endswith(".weights.h5"):
        _load_h5(model.backbone, path)
    else:
        state = read_state_dict(path)
        state = {k: v for k, v in state.items() if not k.startswith(HEADS)}
        state = {k.removeprefix("backbone."): v for k, v in state.items()}
        names = names_of(model.backbone)
        variables, state = _variables(model.backbone, names), names.used(state)
        for key in _other_tables(variables, state):
            del variables[key], state[key]
        assign_state_dict(variables, state, path)


def load_model(path):
    """Load a `.keras` file without its training state.

    Raises:
        ValueError: if the file is damaged or not a Keras model.
    """
    path = resolve(path)
    if not zipfile.is_zipfile(path):  # Keras would say that there is no such file
        raise ValueError(
            f"{path} is not a readable .keras model: no whole zip file. Is the "
            "download or copy complete?"
        )
    try:
        return keras.saving.load_model(path, compile=False)
    except Exception as error:  # Keras lets zip, JSON, HDF5 and type errors through.
        first = (str(error).strip().splitlines() or [repr(error)])[0]
        raise ValueError(f"{path} is not a readable .keras model: {first}") from error


def published_head(path) -> tuple[str | None, int]:
    """Return the classifier's name and number of classes of a published checkpoint.

    The name is what `classifier=` takes, "pixel" or "offset"; None: the checkpoint is
    that of an image classifier.

    Raises:
        ValueError: if the file has no classification layer.
    """
    state = read_state_dict(resolve(path))
    for name, key in CLASSES.items():
        if key in state:
            return name, len(state[key])
    raise ValueError(
        f"{path} has no classification layer decode_head.conv_seg. A backbone alone is "
        "loaded with backbone_weights=."
    )


def names_of(part) -> Names:
    """Return the published names of a backbone, decoder or classifier.

    Raises:
        ValueError: if there are none for its class.
    """
    kind = type(part).__name__
    if kind not in NAMES:
        raise ValueError(
            f"There are no published weights for {kind}, only for {sorted(NAMES)}. "
            "Use backbone_weights= for the backbone."
        )
    return NAMES[kind]


def _load_state_dict(model, state, path, head):
    if not head:
        _check_classes(model, state, path)
    parts = [("backbone.", model.backbone, names_of(model.backbone))]
    if hasattr(model, "decoder"):
        layers = (model.decoder,) if head else (model.decoder, model.classifier)
        parts += [("decode_head.", layer, names_of(layer)) for layer in layers]
    else:
        state = _classifier_state(model, state)
        parts.append(("head.", model.head, Names()))
        parts += [] if head else [("classifier.", model.classifier, Names())]
    if head:
        state = {k: v for k, v in state.items() if not k.startswith(CLASSIFIERS)}
    variables = {}
    for prefix, layer, names in parts:
        own = {k: v for k, v in state.items() if k.startswith(prefix)}
        state = {k: v for k, v in state.items() if k not in own}
        own = names.used({k.removeprefix(prefix): v for k, v in own.items()})
        state |= {prefix + k: v for k, v in own.items()}
        wanted = _variables(layer, names)
        variables |= {prefix + k: v for k, v in wanted.items()}
    assign_state_dict(variables, state, path)


def _classifier_state(model, state):
    kind = type(model.backbone).__name__
    if kind not in IMAGE_CLASSIFIERS:
        raise ValueError(
            f"There are no published image classifiers with {kind}, only with "
            f"{sorted(IMAGE_CLASSIFIERS)}."
        )
    return IMAGE_CLASSIFIERS[kind](state)


def _check_classes(model, state, path):
    segments = hasattr(model, "decoder")
    keys = [key for name, key in CLASSES.items() if bool(name) == segments]
    published = next((len(state[key]) for key in keys if key in state), None)
    if published not in (None, model.num_classes):
        raise ValueError(
            f"{path} has {published} classes, the model {model.num_classes}. "
            f"Type num_classes={published}, or reset_head=True to start with a "
            "new classification layer."
        )


def _variables(part, names):
    """The variables of a backbone or layer by their published keys."""
    return {
        names.key(v.path.removeprefix(f"{part.name}/")): v
        for v in part.variables
        if "seed_generator" not in v.path
    }


def _other_tables(variables, values):
    """The keys of tables that both sides have for different image sizes."""
    return [
        key
        for key, variable in variables.items()
        if variable.name in TABLES
        and key in values
        and tuple(values[key].shape) != tuple(variable.shape)
    ]


def _copy_keras(source, target, path, head=frozenset(), other_tables=False):
    """Copy variables pairwise by path; the paths leave out the models' own names."""
    values = {v.path: v for v in source.weights}
    wanted = {v.path: v for v in target.weights if id(v) not in head}
    for key in _other_tables(wanted, values) if other_tables else ():
        del wanted[key], values[key]
    unfit = [
        f"{name} (file {values[name].shape if name in values else 'none'}, "
        f"model {v.shape})"
        for name, v in wanted.items()
        if name not in values or values[name].shape != v.shape
    ]
    left_out = {v.path for v in source.classifier.variables} if head else set()
    unfit += [
        f"{name} (model none)"
        for name in values
        if name not in wanted and name not in left_out
    ]
    if unfit:
        raise ValueError(
            f"{path} does not fit this model: {len(unfit)} weights differ, first "
            f"{', '.join(unfit[:3])}. For another number of classes type "
            "reset_head=True."
        )
    for name, variable in wanted.items():
        variable.assign(keras.ops.convert_to_numpy(values[name]))


def _load_h5(model, path, reset_head=False):
    """Load Keras's weight file; Keras itself leaves out what it has no place for."""
    if reset_head:
        raise ValueError(
            f"reset_head=True needs a .keras or PyTorch checkpoint. Received: {path}"
        )
    with tempfile.TemporaryDirectory() as folder:
        own = pathlib.Path(folder) / "own.weights.h5"
        model.save_weights(own)
        expected, found = _h5_shapes(own), _h5_shapes(path)
    unfit = sorted(set(expected.items()) ^ set(found.items()))
    if unfit:
        raise ValueError(
            f"{path} does not fit this model: {len(unfit)} weights differ, first "
            f"{unfit[0][0]} (file {found.get(unfit[0][0])}, "
            f"model {expected.get(unfit[0][0])})."
        )
    model.load_weights(path)


def _h5_shapes(path) -> dict[str, tuple]:
    """The shapes of a weight file's arrays by their path, less the optimizer's."""
    shapes = {}

    def note(name, item):
        if isinstance(item, h5py.Dataset) and not name.startswith("optimizer/"):
            shapes[name] = item.shape

    try:
        with h5py.File(path) as file:
            file.visititems(note)
    except OSError as error:
        raise ValueError(
            f"{path} is not a readable .weights.h5 file: {error}"
        ) from None
    return shapes
