"""Fill a model with the weights of a file, all of them or none."""

from keras_lrseg.checkpoints import (
    classifiers,
    efficientformer,
    lrformer,
    mask2former,
    offseg,
    segformer,
    segnext,
    swin,
)
from keras_lrseg.checkpoints.convert import Names, assign_state_dict, other_tables
from keras_lrseg.checkpoints.files import read_state_dict, resolve
from keras_lrseg.checkpoints.keras_files import copy_keras, load_h5, load_model

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
    "DeformablePixelDecoder": mask2former.PIXEL_DECODER,
    "MaskedAttentionDecoder": mask2former.MASK_DECODER,
    "PointwiseConvolution": classifiers.PIXEL,
    "OffsetLearning": classifiers.OFFSET,
}

# How a published image classifier is sorted into backbone, head and classifier.
IMAGE_CLASSIFIERS = {"EfficientFormerV2Backbone": efficientformer.classifier_state}

# What a segmentation or classification checkpoint holds beside its backbone.
HEADS = ("decode_head.", "auxiliary_head.", "head.")


def load_weights(model, path, reset_head: bool = False) -> None:
    """Load the weights of a whole segmenter or image classifier.

    Args:
        model: a `SemanticSegmenter`, `MaskClassificationSegmenter` or
            `ImageClassifier`.
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
        source = load_model(path)
        _check_kind(model, classifiers.kind_of(source), path)
        copy_keras(source, model, path, head)
    elif path.name.endswith(".weights.h5"):
        load_h5(model, path, reset_head)
    else:
        _load_state_dict(model, _read(path), path, head)


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
        copy_keras(source, model.backbone, path, tables=False)
    elif path.name.endswith(".weights.h5"):
        load_h5(model.backbone, path)
    else:
        state = {k: v for k, v in _read(path).items() if not k.startswith(HEADS)}
        state = {k.removeprefix("backbone."): v for k, v in state.items()}
        names = names_of(model.backbone)
        variables, state = _variables(model.backbone, names), names.used(state)
        for key in other_tables(variables, state):
            del variables[key], state[key]
        assign_state_dict(variables, state, path)


def published_settings(path) -> dict:
    """Return the arguments that build the model of a published checkpoint.

    "num_classes"; of segmenters also "classifier", and of those of masks "num_queries".

    Raises:
        ValueError: if the file has no classification layer.
    """
    kind, settings = classifiers.settings_of(_read(resolve(path)))
    if kind is None:
        raise ValueError(
            f"{path} has no classification layer, decode_head.conv_seg or "
            "decode_head.cls_embed. A backbone alone is loaded with backbone_weights=."
        )
    return settings


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


def _read(path):
    state = mask2former.from_hugging_face(read_state_dict(path))
    return mask2former.from_mmdetection(state)


def _load_state_dict(model, state, path, head):
    _check_head(model, state, path, bool(head))
    images = classifiers.kind_of(model) == "images"
    if images:
        state = _classifier_state(model, state)
    if head:
        _, left_out = classifiers.KINDS[classifiers.kind_of(model)]
        state = {k: v for k, v in state.items() if not k.startswith(left_out)}
    variables = {}
    for name, part in model.parts.items():
        if head and part is model.classifier:
            continue
        if name == "backbone":
            prefix, names = "backbone.", names_of(part)
        elif images:
            prefix, names = f"{name}.", Names()
        else:
            prefix, names = "decode_head.", names_of(part)
        own = {k: v for k, v in state.items() if k.startswith(prefix)}
        state = {k: v for k, v in state.items() if k not in own}
        own = names.used({k.removeprefix(prefix): v for k, v in own.items()})
        state |= {prefix + k: v for k, v in own.items()}
        wanted = _variables(part, names)
        variables |= {prefix + k: v for k, v in wanted.items() if id(v) not in head}
    assign_state_dict(variables, state, path)


def _classifier_state(model, state):
    kind = type(model.backbone).__name__
    if kind not in IMAGE_CLASSIFIERS:
        raise ValueError(
            f"There are no published image classifiers with {kind}, only with "
            f"{sorted(IMAGE_CLASSIFIERS)}."
        )
    return IMAGE_CLASSIFIERS[kind](state)


def _check_head(model, state, path, reset_head):
    kind, settings = classifiers.settings_of(state)
    _check_kind(model, kind, path)
    classes = settings.get("num_classes")
    if not reset_head and classes not in (None, model.num_classes):
        raise ValueError(
            f"{path} has {classes} classes, the model {model.num_classes}. "
            f"Type num_classes={classes}, or reset_head=True (--reset-head) to start "
            "with a new classification layer."
        )


def _check_kind(model, kind, path):
    own = classifiers.kind_of(model)
    if kind not in (None, own):
        found, expected = (classifiers.KINDS[x][0] for x in (kind, own))
        raise ValueError(
            f"{path} does not fit this model: it holds {found}; the model is "
            f"{expected}. Build one of the other kind, or load the backbone alone with "
            "backbone_weights=."
        )


def _variables(part, names):
    """The variables of a backbone or layer by their published keys."""
    return {
        names.key(v.path.removeprefix(f"{part.name}/")): v
        for v in part.variables
        if "seed_generator" not in v.path
    }
