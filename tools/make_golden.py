"""Makes tests/golden: a few numbers of each output of the authors' code.

The reference folder holds what the unmodified official PyTorch code (LRFormer@59f2764
and HVision-NKU/OffSeg, torch 2.13 on a CPU) computes from seeded random weights; no
trained weight is involved. `tests/reference.py` draws the same weights and inputs, so
a golden file needs outputs only: of each one its shape, its mean, standard deviation
and largest value, and a seeded sample of its values, by flat index in PyTorch's layout.

    layers.npz          single layers, blocks, pooling and resizing
    models.npz          features and logits of whole models in inference
    train_step.npz      loss, gradients and batch statistics of one training step
    pooled_sizes.npy    rows of query size, height, width, then five (rows, columns)
    manifests.json.gz   keys and shapes of the checkpoints, by model
    offseg.npz          layers and whole models of the OffSeg paper
    offseg.json.gz      their inputs, weights and gradient norms

Example:
    python tools/make_golden.py REFERENCE
"""

import argparse
import gzip
import json
import pathlib

import numpy as np

GOLDEN = pathlib.Path(__file__).parents[1] / "tests" / "golden"
SAMPLES = 400


def sample(array):
    """Return the shape, statistics and some values of an output."""
    size = min(SAMPLES, array.size)
    index = np.random.default_rng(0).choice(array.size, size, replace=False)
    index = np.sort(index).astype("int32")
    stats = [array.mean(), array.std(), np.abs(array).max()]
    return {
        "shape": array.shape,
        "stats": stats,
        "index": index,
        "values": array.ravel()[index],
    }


def stored_sample(archive, name):
    """Return the same of an output that the reference keeps whole or sampled."""
    if name in archive.files:
        return sample(archive[name])
    step = -(-archive[f"{name}_index"].size // SAMPLES)
    return {
        "shape": archive[f"{name}_shape"],
        "stats": archive[f"{name}_stats"],
        "index": archive[f"{name}_index"][::step],
        "values": archive[f"{name}_values"][::step],
    }


def layers(folder, manifests):
    archive = np.load(folder / "lrformer_layers.npz")
    golden = {}
    for case in json.loads(str(archive["meta"]))["cases"]:
        name = case["name"]
        golden[name] = sample(archive[f"{name}_output"])
        if "manifest" in case:
            manifests[name] = case["manifest"]
    return golden


def models(folder):
    golden = {}
    for path in sorted(folder.glob("lrformer_*x*.npz")):
        archive = np.load(path)
        for name in ("F1", "F2", "F3", "F4", "logits", "seg_logits"):
            if f"{name}_shape" in archive.files:
                golden[f"{path.stem}/{name}"] = stored_sample(archive, name)
    return golden


def train_step(folder):
    archive = np.load(folder / "lrformer_tiny_test_train_step.npz")
    statistics = {
        str(key): archive[f"bn_after_{i:02}"]
        for i, key in enumerate(archive["bn_buffer_keys"])
    }
    return {
        "image_seed": archive["images_seed"],
        "labels": archive["labels"],
        "loss": archive["loss_mean_over_valid_pixels"],
        "keys": archive["parameter_keys"],
        "norms": archive["gradient_norms"],
        "zero": archive["analytically_zero"],
        "index": archive["gradient_sample_index"],
        "values": archive["gradient_sample_values"].astype("float32"),
        **{f"after/{key}": value for key, value in statistics.items()},
    }


def pooled_sizes(folder):
    cases = json.loads((folder / "pooled_sizes.json").read_text())
    rows = [
        [
            c["q_pooled_size"],
            c["height"],
            c["width"],
            *np.ravel(c["query_then_pyramid"]),
        ]
        for c in cases
    ]
    return np.array(rows, "int16")


def offseg(folder):
    """Return outputs, and what makes them, of the OffSeg paper's layers and models."""
    golden, fixtures = {}, {}
    for path in sorted(folder.glob("*_*.json")):
        about = json.loads(path.read_text())
        archive = np.load(path.with_suffix(".npz"))
        name = about["name"]
        whole = path.name.startswith("layer_")
        for output in about["outputs"]:
            if whole:
                part = sample(archive[f"out.{output}"])
            else:
                step = -(-archive[f"{output}.idx"].size // SAMPLES)
                part = {
                    "shape": about["outputs"][output]["shape"],
                    "stats": archive[f"{output}.stats"],
                    "index": archive[f"{output}.idx"][::step],
                    "values": archive[f"{output}.val"][::step],
                }
            golden[f"{name}/{output}"] = part
        fixtures[name] = {
            "inputs": about.get("inputs") or [["images", *_input(about["input"])]],
            "config": about["config"],
            "prefix": about.get("key_prefix", ""),
            "weights": [row[:2] for row in about["weights"]],
            "grads": about.get("grads"),
        }
    return golden, fixtures


def _input(about):
    return about["seed"], about["shape"]


def flat(golden):
    """Return {"case/part": array} of {"case": {"part": array}}."""
    return {
        f"{name}/{part}": np.asarray(value)
        for name, parts in golden.items()
        for part, value in parts.items()
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=pathlib.Path, help="the reference")
    parser.add_argument("--output", type=pathlib.Path, default=GOLDEN)
    arguments = parser.parse_args()
    folder, output = arguments.folder / "lrformer", arguments.output
    output.mkdir(parents=True, exist_ok=True)

    manifests = {
        path.stem: json.loads(path.read_text())
        for path in sorted((folder / "manifests").glob("*.json"))
    }
    np.savez_compressed(output / "layers.npz", **flat(layers(folder, manifests)))
    np.savez_compressed(output / "models.npz", **flat(models(folder)))
    np.savez_compressed(output / "train_step.npz", **train_step(folder))
    np.save(output / "pooled_sizes.npy", pooled_sizes(folder))
    keys = sorted((arguments.folder / "keys").glob("*.json"))
    manifests |= {path.stem: json.loads(path.read_text()) for path in keys}
    write_json(
        output / "manifests.json.gz",
        {name: [row[:2] for row in rows] for name, rows in manifests.items()},
    )
    golden, fixtures = offseg(arguments.folder / "offseg")
    np.savez_compressed(output / "offseg.npz", **flat(golden))
    for name, fixture in fixtures.items():  # whole models are in the manifests
        model = name.rpartition("_")[0]
        if model in manifests:
            fixture["weights"] = model
    write_json(output / "offseg.json.gz", fixtures)
    for path in sorted(output.iterdir()):
        print(f"{path.stat().st_size:8} {path.name}")


def write_json(path, content):
    path.write_bytes(gzip.compress(json.dumps(content).encode(), mtime=0))


if __name__ == "__main__":
    main()
