"""The card of a trained model: what it is, how it was made, how it is used."""

import keras

from keras_lrseg.layers.offset_learning import notices

_CARD = """---
library_name: keras
pipeline_tag: image-{kind}
tags:
- keras-lrseg
---

# {name}

Image {kind}, RGB 0..255, {count} classes: {classes}. {parameters:.2f} M parameters.
{notices}{example}
| trained on | {dataset}, {image_count} images |
|---|---|
| from | {start} |
| steps × batch | {steps} × {batch_size} |
| learning rate | {learning_rate}, {schedule} |
{scores}
Made with Keras {keras} on {backend}; run.json has all numbers. The licences of the data
and of the weights that the training began from hold for this model, too.
"""

_SEGMENTATION = """
```python
from keras_lrseg import checkpoints, data, evaluation

model = checkpoints.load_model("model.keras")
image = data.load_image("image.jpg")
labels = evaluation.predict_labels(model, image)  # uint8 (height, width)
names = [model.classes[label] for label in set(labels.ravel())]
```
"""

_CLASSIFICATION = """
```python
from keras_lrseg import checkpoints, data

model = checkpoints.load_model("model.keras")
image = data.load_image("image.jpg")
scores = model.predict(image[None])[0]  # (classes,)
name = model.classes[scores.argmax()]
```
"""


def model_card(model: keras.Model, dataset: str, settings: dict, figures: dict) -> str:
    """Return the Markdown of a run's README, with the header of the Hugging Face Hub.

    Args:
        model: the trained model.
        dataset: name of what it was trained on.
        settings: what `run.json` holds.
        figures: of the last epoch, as in `log.csv`; those of the validation are shown.
    """
    segments = len(model.output_shape) == 4
    ours = type(model).__module__.startswith("keras_lrseg.")  # saves its classes
    begun = [settings[key] for key in ("weights", "backbone_weights") if settings[key]]
    scores = {k: v for k, v in figures.items() if k.startswith("val_")}
    rows = (f"| {name} | {float(value):.4f} |\n" for name, value in scores.items())
    shown = ("image_count", "steps", "batch_size", "learning_rate", "schedule")
    return _CARD.format(
        **{key: settings[key] for key in shown},
        name=settings["model"],
        dataset=dataset,
        kind="segmentation" if segments else "classification",
        count=len(settings["class_names"]),
        classes=_shortened(settings["class_names"]),
        parameters=model.count_params() / 1e6,
        notices="".join(f"\n> **{notice}.**\n" for notice in notices(model)),
        example=(_SEGMENTATION if segments else _CLASSIFICATION) * ours,
        start=", ".join(begun) or "random weights",
        scores="".join(rows),
        keras=keras.__version__,
        backend=keras.config.backend(),
    )


def _shortened(names, most=20):
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
