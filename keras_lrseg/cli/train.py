"""`keras-lrseg train`: train a model on a folder of images."""

from keras_lrseg.cli.options import (
    add_classifier,
    add_data,
    classifier,
    positive,
    progress_callback,
)

SUMMARY = "train a model on a folder of images"
EXAMPLE = (
    "keras-lrseg train --model LRFormerT --images street/images --masks "
    "street/masks --classes street/classes.txt --crop 512 512 --batch 8 --steps 20000 "
    "--out runs/street"
)
INTERRUPTED = (
    "Interrupted. The same command with --resume goes on from the last checkpoint."
)


def add_arguments(parser):
    parser.add_argument("--model", required=True, help="for example LRFormerT")
    add_classifier(parser)
    add_data(parser)
    parser.add_argument("--val-images", metavar="DIR", help="images to score on")
    parser.add_argument("--val-masks", metavar="DIR", help="their masks")
    parser.add_argument(
        "--crop",
        type=positive,
        nargs=2,
        default=(512, 512),
        metavar=("H", "W"),
        help="training crop in pixels (default 512 512)",
    )
    parser.add_argument("--batch", type=positive, default=8, help="images a step")
    parser.add_argument("--steps", type=positive, required=True, help="whole training")
    parser.add_argument(
        "--epoch-steps",
        type=positive,
        default=500,
        help="steps from one checkpoint to the next (default 500)",
    )
    parser.add_argument(
        "--learning-rate",
        type=float,
        help="the peak (default 6e-5 from given weights, 1e-3 from scratch)",
    )
    parser.add_argument("--weights", metavar="FILE", help="start from a whole model")
    parser.add_argument("--backbone-weights", metavar="FILE", help="from a backbone")
    parser.add_argument(
        "--reset-head", action="store_true", help="with --weights: new classes"
    )
    parser.add_argument(
        "--precision",
        choices=("float32", "mixed_bfloat16", "mixed_float16"),
        default="float32",
    )
    parser.add_argument("--seed", type=int, default=0, help="of data and augmentation")
    parser.add_argument("--resume", action="store_true", help="go on with --out")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the run")


def run(arguments):
    from keras_lrseg import data, models, training

    dataset = data.SegmentationDataset.from_folders(
        arguments.images, arguments.masks, arguments.classes
    )
    validation = None
    if arguments.val_images or arguments.val_masks:
        if not (arguments.val_images and arguments.val_masks):
            raise ValueError("--val-images and --val-masks go together.")
        validation = data.SegmentationDataset.from_folders(
            arguments.val_images, arguments.val_masks, dataset.classes
        )
    for part in filter(None, (dataset, validation)):
        print(f"Checking {len(part)} images of {part.name}", flush=True)
        pixels = part.check(progress_callback())
        for name, count in zip(part.classes, pixels, strict=True):
            if count == 0:
                print(f"warning: no pixel of class {name!r} in {part.name}")
    model = models.make(
        arguments.model,
        num_classes=dataset.num_classes,
        weights=arguments.weights,
        backbone_weights=arguments.backbone_weights,
        reset_head=arguments.reset_head,
        dtype=arguments.precision,
        **classifier(arguments),
    )
    pretrained = arguments.weights or arguments.backbone_weights
    path = training.train(
        model,
        dataset,
        arguments.out,
        crop=tuple(arguments.crop),
        batch_size=arguments.batch,
        steps=arguments.steps,
        learning_rate=arguments.learning_rate or (6e-5 if pretrained else 1e-3),
        validation=validation,
        epoch_steps=arguments.epoch_steps,
        seed=arguments.seed,
        resume=arguments.resume,
    )
    print(f"Model: {path}")
