"""`keras-lrseg predict`: label maps and overlays of images."""

import pathlib

SUMMARY = "label maps and overlays of images"
EXAMPLE = "keras-lrseg predict runs/street/model.keras a.jpg b.jpg --out labels"


def add_arguments(parser):
    parser.add_argument("model", metavar="MODEL.keras")
    parser.add_argument("pictures", nargs="+", metavar="IMAGE")
    parser.add_argument("--opacity", type=float, default=0.5, help="of the overlay")
    parser.add_argument("--out", required=True, metavar="DIR")


def run(arguments):
    from keras_lrseg import checkpoints, data, evaluation

    model = checkpoints.load_model(arguments.model)
    if len(model.output_shape) != 4:
        raise ValueError(f"{arguments.model} is no segmenter: it gives no label maps.")
    palette = getattr(model, "palette", None)
    if palette is None:
        palette = data.default_palette(model.output_shape[-1])
    folder = pathlib.Path(arguments.out)
    results = [_results(folder, pathlib.Path(path)) for path in arguments.pictures]
    _check_results(results, arguments.pictures)
    for path, (label_map, overlay) in zip(arguments.pictures, results, strict=True):
        image = data.load_image(path, upright=True)
        folder.mkdir(parents=True, exist_ok=True)
        labels = evaluation.predict_labels(model, image)
        picture = data.overlay(image, labels, palette, arguments.opacity)
        data.save_mask(label_map, labels, palette)
        data.save_image(overlay, picture)
        print(label_map, overlay, sep="\n")


def _results(folder, path):
    """Where the label map and the overlay of an image go."""
    return folder / f"{path.stem}.png", folder / f"{path.stem}_overlay.png"


def _check_results(results, pictures):
    """Refuse to write a file twice, or over an image that was given."""
    paths = [path for pair in results for path in pair]
    if len(set(paths)) < len(paths):
        raise ValueError(
            "Two results would have the same name; predict the images one by one."
        )
    for path in filter(pathlib.Path.exists, paths):
        if any(path.samefile(picture) for picture in pictures):
            raise ValueError(
                f"{path} is an image and would be written over; choose another --out."
            )
