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
    stems = [pathlib.Path(path).stem for path in arguments.pictures]
    if len(set(stems)) < len(stems):
        raise ValueError("Two images have the same name; predict them one by one.")
    for path, stem in zip(arguments.pictures, stems, strict=True):
        image = data.load_image(path)
        folder.mkdir(parents=True, exist_ok=True)
        labels = evaluation.predict_labels(model, image)
        picture = data.overlay(image, labels, palette, arguments.opacity)
        data.save_mask(folder / f"{stem}.png", labels, palette)
        data.save_image(folder / f"{stem}_overlay.png", picture)
        print(folder / f"{stem}.png", folder / f"{stem}_overlay.png", sep="\n")
