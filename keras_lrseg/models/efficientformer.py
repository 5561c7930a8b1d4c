"""EfficientFormerV2 as image classifiers, as ImageNet trains them.

Paper: Li et al., "Rethinking Vision Transformers for MobileNet Size and Speed", ICCV
2023. The published network has two linear maps, one trained by labels and one by a
teacher, and averages their logits; here they are one, which gives the same logits.
"""

from keras_lrseg.backbones.efficientformer_v2 import VARIANTS, EfficientFormerV2Backbone
from keras_lrseg.layers import batch_norm
from keras_lrseg.models.variants import (
    CLASSIFIER_ARGUMENTS,
    RETURNS_CLASSIFIER,
    make_image_classifier,
    named,
)

_DOC = """{name}: EfficientFormerV2-{variant} as an image classifier.

The backbone, batch norm, mean over the pixels, linear map. As `weights` serve the
authors' ImageNet checkpoints and those of timm (`efficientformerv2_{lower}`).

Args:
{arguments}\
    resolution: side in pixels of the square images that the attention biases are for.

{returns}
Example:

>>> model = keras_lrseg.{name}(weights="eformer_{lower}_450.pth")
>>> model(images).shape
"""


def _classifier(variant):
    default_name = f"efficientformer_v2_{variant.lower()}_classifier"

    def build(
        num_classes=1000,
        weights=None,
        backbone_weights=None,
        input_shape=(None, None, 3),
        include_preprocessing=True,
        activation=None,
        drop_path_rate=None,
        resolution=224,
        reset_head=False,
        name=default_name,
        dtype=None,
    ):
        settings = dict(VARIANTS[variant])
        if drop_path_rate is not None:
            settings["drop_path_rate"] = drop_path_rate
        return make_image_classifier(
            EfficientFormerV2Backbone(
                **settings, resolution=resolution, input_shape=input_shape, dtype=dtype
            ),
            batch_norm(name="head", dtype=dtype),
            num_classes,
            weights=weights,
            backbone_weights=backbone_weights,
            reset_head=reset_head,
            input_shape=input_shape,
            include_preprocessing=include_preprocessing,
            activation=activation,
            name=name,
            dtype=dtype,
        )

    name = f"EfficientFormerV2{variant}Classifier"
    doc = _DOC.format(
        name=name,
        variant=variant,
        lower=variant.lower(),
        arguments=CLASSIFIER_ARGUMENTS,
        returns=RETURNS_CLASSIFIER,
    )
    return named(build, name, doc)


EfficientFormerV2S0Classifier = _classifier("S0")
EfficientFormerV2S1Classifier = _classifier("S1")
EfficientFormerV2S2Classifier = _classifier("S2")
EfficientFormerV2LClassifier = _classifier("L")
