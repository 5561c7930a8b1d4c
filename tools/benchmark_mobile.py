"""Measures exported files in LiteRT, beside models that phones can run otherwise.

150 classes, random weights, on which no latency depends, uint8 images. XNNPACK runs
them on this machine's processor, which is no phone's: read the ratios. Contenders:

    LRFormerT, OffSegT, OffSegB, SegFormerB0, SegNeXtT    of keras_lrseg, exported with
               every precision; "plain": as TensorFlow converts them, without our
               export, with float32 images
    hub        KerasHub's SegFormer-B0 converted by TensorFlow: float32 images that are
               normalised, logits at stride 4, as OffSeg's and our SegFormer's
    selfie     MediaPipe's portrait segmenter, two classes at 256×256: a yardstick of
               what phones do today; with --selfie

The files of one size, output and number of threads run in turn, each in a process of
its own (see `bench.Rounds`). Outputs are logits and labels at the decoder's stride, and
in float32 labels of the image's size ("full"). Columns beside the machine's:

    size_mib                      of the file
    operators, parts              of the file, and the parts in which XNNPACK takes them
    median_ms, min_ms             of an image
    ratio                         of the medians, to SegFormerB0 with float32 logits
    peak_gmac_per_s               of a 2048² matrix product of float32 in LiteRT

Example:
    npm pack @mediapipe/selfie_segmentation && tar xf mediapipe-selfie*.tgz
    python tools/benchmark_mobile.py --selfie package/selfie_segmentation.tflite
    python tools/benchmark_mobile.py --models OffSegT --sizes 256 --precisions float32
"""

import argparse
import importlib.metadata
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import bench
import numpy as np

MODELS = ("LRFormerT", "OffSegT", "OffSegB", "SegFormerB0", "SegNeXtT", "hub")
PRECISIONS = ("plain", "float32", "float16", "weight_int8", "dynamic_int8", "int8")
OUTPUTS = ("logits", "labels", "full")
BASE = "SegFormerB0 float32"
NUM_CLASSES = 150
PEAK_SIDE = 2048
CALIBRATION_IMAGES = 4  # for the speed of int8 any ranges do
LIBRARIES = ("keras", "tensorflow", "ai-edge-litert", "ai-edge-quantizer")


def main() -> None:
    arguments = parse_arguments()
    if arguments.worker:
        bench.serve(answers(Path(arguments.worker[0]), int(arguments.worker[1])))
        return
    if arguments.export:
        model, size, folder = arguments.export
        export(model, int(size), Path(folder), arguments.precisions)
        return
    bench.warn_if_busy()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.files or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for size in arguments.sizes:
            prepare(folder, size, arguments)
            for output in OUTPUTS:
                for threads in arguments.threads:
                    rows = measure(folder, size, output, threads, arguments)
                    for row in rows:
                        bench.append_row(arguments.out, row)
                    show(rows)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--models", nargs="+", choices=MODELS, default=MODELS, metavar="MODEL")
    add("--sizes", nargs="+", type=int, default=[256, 512], help="256 is 256×256")
    add("--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS)
    add("--threads", nargs="+", type=int, default=[1, 2])
    add("--selfie", type=Path, help="selfie_segmentation.tflite of MediaPipe")
    add("--rounds", type=int, default=9)
    add("--warm-ups", type=int, default=2, help="rounds before, not counted")
    add("--files", type=Path, help="keep the exported files here, and use those here")
    add("--out", type=Path, default=bench.RESULTS / "mobile.csv")
    add("--export", nargs=3, help=argparse.SUPPRESS)
    add("--worker", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


# === The files, each model's made by a process of its own ===


def prepare(folder: Path, size: int, arguments: argparse.Namespace) -> None:
    """Write the files of a size that are not there yet."""
    for model in ("peak", *arguments.models):
        if not (folder / f"{model}-{size}.done").exists():
            print(f"exporting {model} {size}×{size}", flush=True)
            command = [sys.executable, __file__, "--export", model, str(size)]
            command += [str(folder), "--precisions", *arguments.precisions]
            environment = {**os.environ, **bench.environment("tensorflow", 2)}
            subprocess.run(command, env=environment, check=True)
    if arguments.selfie and size == 256:
        content = arguments.selfie.read_bytes()
        (folder / "selfie-256-logits-float32.tflite").write_bytes(content)


def export(model: str, size: int, folder: Path, precisions: list[str]) -> None:
    """Write the files of one model at one size: MODEL-SIZE-OUTPUT-PRECISION.tflite."""
    if make := OTHERS.get(model):
        (folder / f"{model}-{size}-logits-float32.tflite").write_bytes(make(size))
    else:
        export_ours(model, size, folder, precisions)
    (folder / f"{model}-{size}.done").touch()


def export_ours(name, size, folder, precisions):
    import keras_lrseg
    from keras_lrseg import data

    if "plain" in precisions:
        file = folder / f"{name}-{size}-logits-plain.tflite"
        file.write_bytes(plain(name, size))
        precisions.remove("plain")
    model = getattr(keras_lrseg, name)(num_classes=NUM_CLASSES)
    images = [data.load_demo("train")[i][0] for i in range(CALIBRATION_IMAGES)]
    for output in OUTPUTS:
        for precision in precisions if output != "full" else ("float32",):
            keras_lrseg.export.export_tflite(
                model,
                folder / f"{name}-{size}-{output}-{precision}.tflite",
                (size, size),
                output="labels" if output == "full" else output,
                full_size=output == "full",
                precision=precision,
                calibration=images if precision == "int8" else None,
                images=images[:1],
            )


def keras_hub_segformer(size):
    """KerasHub's SegFormer-B0 (its preset's numbers), as a TFLite file."""
    import keras
    import keras_hub

    backbone = keras_hub.models.MiTBackbone(
        num_layers=4,
        layerwise_depths=[2, 2, 2, 2],
        layerwise_num_heads=[1, 2, 5, 8],
        layerwise_sr_ratios=[8, 4, 2, 1],
        layerwise_patch_sizes=[7, 3, 3, 3],
        layerwise_strides=[4, 2, 2, 2],
        hidden_dims=[32, 64, 160, 256],
        max_drop_path_rate=0.1,
        image_shape=(size, size, 3),
    )
    encoder = keras_hub.models.SegFormerBackbone(backbone, projection_filters=256)
    model = keras_hub.models.SegFormerImageSegmenter(encoder, num_classes=NUM_CLASSES)
    logits = model.output_segmentation_head.output  # it would enlarge them
    return converted(keras.Model(model.inputs, logits), (size, size, 3))


def plain(name, size):
    """A model of ours with logits at the decoder's stride, by TensorFlow's one line."""
    import tensorflow as tf

    import keras_lrseg

    make = getattr(keras_lrseg, name)
    model = make(NUM_CLASSES, input_shape=(size, size, 3), upsample=False)
    return tf.lite.TFLiteConverter.from_keras_model(model).convert()


def matrix_product(size):
    """A product of two square matrices, one of them constant."""
    import tensorflow as tf

    constant = tf.constant(np.random.default_rng(0).random((PEAK_SIDE,) * 2, "float32"))
    return converted(lambda x, **_: tf.matmul(x[0], constant)[None], (PEAK_SIDE,) * 2)


def converted(model, shape):
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((1, *shape), tf.float32)])
    def infer(x):
        return model(x, training=False)

    function = infer.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
    return converter.convert()


OTHERS = {"peak": matrix_product, "hub": keras_hub_segformer}


# === The measuring process ===


def measure(folder, size, output, threads, arguments) -> list[dict]:
    """Return a row for each file of a size and an output."""
    files = {"peak": folder / f"peak-{size}-logits-float32.tflite"}
    for model in (*arguments.models, "selfie"):
        for precision in arguments.precisions:
            file = folder / f"{model}-{size}-{output}-{precision}.tflite"
            if file.exists():
                files[f"{model} {precision}"] = file
    if len(files) == 1:
        return []
    print(f"\n{size}×{size}, {output}, {threads} threads", flush=True)
    contenders = {
        name: ([__file__, "--worker", str(file), str(threads)], "tensorflow")
        for name, file in files.items()
    }
    rounds = bench.Rounds(contenders, arguments.warm_ups, arguments.rounds, threads)
    peak = PEAK_SIDE**3 / rounds.median("peak") / 1e9
    del files["peak"]
    return [
        {
            **bench.machine(),
            "versions": ", ".join(
                f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES
            ),
            "model": name.split()[0],
            "height": size,
            "width": size,
            "output": output,
            "precision": name.split()[1],
            "threads": threads,
            "rounds": arguments.rounds,
            "size_mib": f"{file.stat().st_size / 2**20:.2f}",
            **rounds.answers[name][0]["operators"],
            "median_ms": f"{1e3 * rounds.median(name):.1f}",
            "min_ms": f"{1e3 * min(rounds.seconds(name)):.1f}",
            "ratio": rounds.ratio(name, to=BASE),
            "peak_gmac_per_s": f"{peak:.1f}",
        }
        for name, file in files.items()
        if name in rounds.answers
    ]


def show(rows: list[dict]) -> None:
    columns = ("model", "precision", "size_mib", "operators", "parts")
    columns += ("median_ms", "min_ms", "ratio")
    if rows:
        bench.print_table([{key: row[key] for key in columns} for row in rows])


# === The workers ===


def answers(file: Path, threads: int) -> Iterator[dict]:
    """What a worker answers: its versions, then the seconds of each run."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(file), num_threads=threads)
    interpreter.allocate_tensors()
    (given,), (asked,) = (
        interpreter.get_input_details(),
        interpreter.get_output_details(),
    )
    image = np.random.default_rng(0).integers(0, 256, given["shape"])
    interpreter.set_tensor(given["index"], image.astype(given["dtype"]))

    def run():
        interpreter.invoke()
        return interpreter.get_tensor(asked["index"])

    yield {"versions": bench.versions("ai_edge_litert")}
    while True:
        yield {"seconds": bench.timed(run), "operators": count(interpreter)}


def count(interpreter) -> dict[str, int]:
    """How many operators there are, and in how many parts XNNPACK takes them."""
    names = [node["op_name"] for node in interpreter._get_ops_details()]
    parts = names.count("DELEGATE")
    return {"operators": len(names) - parts, "parts": parts}


if __name__ == "__main__":
    main()
