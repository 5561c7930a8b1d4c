"""What several commands share: options, class names, progress."""

import argparse
import dataclasses

import numpy as np

from keras_lrseg.interruption import interruptible


def add_data(verb):
    verb.add_argument("--images", required=True, metavar="DIR")
    verb.add_argument(
        "--masks", required=True, metavar="DIR", help="PNG of train ids, 255 ignored"
    )
    verb.add_argument(
        "--classes", metavar="FILE", help='a name a line, optionally "name #rrggbb"'
    )


def add_classifier(verb):
    verb.add_argument(
        "--classifier",
        choices=("pixel", "offset"),
        help="1×1 convolution or Offset Learning (default: the model's own)",
    )


def add_size(verb):
    verb.add_argument(
        "--size",
        type=positive,
        nargs=2,
        required=True,
        metavar=("H", "W"),
        help="height and width in pixels",
    )


def positive(text):
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {value}")
    return value


def classifier(arguments):
    """What --classifier sets: nothing when it is not given, the model's own default."""
    return {"classifier": arguments.classifier} if arguments.classifier else {}


def classes_of(model):
    return getattr(model, "classes", None) or [
        f"class {i}" for i in range(model.output_shape[-1])
    ]


def labelled(arguments, model):
    """The data of --images and --masks, with the model's classes without --classes."""
    from keras_lrseg import data

    dataset = data.SegmentationDataset.from_folders(
        arguments.images, arguments.masks, arguments.classes or classes_of(model)
    )
    palette = None if arguments.classes else getattr(model, "palette", None)
    if palette is None:
        return dataset
    return dataclasses.replace(dataset, palette=np.asarray(palette, "uint8"))


def progress(items):
    """Yield the items of a sized iterable with a progress bar; Ctrl-C ends it."""
    update = progress_callback()
    with interruptible() as check:
        for done, item in enumerate(items, 1):
            yield item
            check()
            update(done, len(items))


def progress_callback():
    import keras

    bars = []

    def update(done, total):
        if not bars:
            bars.append(keras.utils.Progbar(total))
        bars[0].update(done)

    return update
