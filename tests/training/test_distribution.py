"""Two devices train as one does. Every training has processes of its own."""

import json
import os
import socket
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_lrseg.training import precision
from keras_lrseg.training.distribution import Devices, distribute
from tests.helpers import loss_and_gradients
from tests.training.distribution_worker import mask_loss
from tests.training.toys import toy_segmenter

BACKEND = keras.config.backend()
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


def start(task, out, devices, environment=None, **arguments):
    """Start a worker that sees so many devices; return its process."""
    out.mkdir(exist_ok=True)
    torchrun = TORCHRUN if BACKEND == "torch" and devices > 1 else []
    module = ["-m", "tests.training.distribution_worker"]
    arguments = json.dumps({"out": str(out), **arguments})
    return subprocess.Popen(
        [sys.executable, *torchrun, *module, task, arguments],
        env={
            **os.environ,
            "DEVICES": str(devices),
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
            "OMP_NUM_THREADS": "1",
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # they take longer than they save
            **(environment or {}),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(*processes):
    outputs = [process.communicate()[0] for process in processes]
    assert not any(process.returncode for process in processes), "\n".join(outputs)


def train(out, strategy, devices, **arguments):
    """Train, and return what each process wrote."""
    finish(start("train", out, devices, strategy=strategy, **arguments))
    return results(out)


def train_in_two_processes_of_jax(out, **arguments):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    environments = [
        {
            "KERAS_DISTRIBUTION_JOB_ADDRESSES": address,
            "KERAS_DISTRIBUTION_NUM_PROCESSES": "2",
            "KERAS_DISTRIBUTION_PROCESS_ID": str(i),
        }
        for i in range(2)
    ]
    arguments["strategy"] = "data"
    finish(*[start("train", out, 1, e, **arguments) for e in environments])
    return results(out)


def results(out):
    return [dict(np.load(path)) for path in sorted(out.glob("[0-9].npz"))]


def assert_same(one, two, tolerance):
    """All variables but random states, and the loss, as vectors."""
    names = list(one["names"])
    assert len(names) == len(two["names"])
    for key in ("loss", *map(str, range(len(names)))):
        path = "loss" if key == "loss" else str(names[int(key)])
        if "seed_generator" in path:
            continue
        # Adam's second moment is a square: twice the relative error.
        allowed = tolerance * (2 if "velocity" in path else 1)
        length = np.linalg.norm(one[key])
        if "grouped_adam_w" not in path:  # four steps move a weight by up to 0.08
            length = max(length, 0.08 * one[key].size ** 0.5)
        error = np.linalg.norm(one[key].astype("float64") - two[key])
        assert error <= allowed * length, path


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one device makes of the whole batch, each precision once."""
    made = {}

    def of(policy="float32"):
        if policy not in made:
            folder = tmp_path_factory.mktemp(policy)
            (made[policy],) = train(folder, "none", 1, policy=policy)
            assert made[policy]["count"] == 1
        return made[policy]

    return of


TOLERANCES = {"float32": 2e-6, "mixed_bfloat16": 1e-1, "mixed_float16": 1e-2}
HALF = [pytest.param(p, marks=pytest.mark.slow) for p in list(TOLERANCES)[1:]]


@pytest.mark.parametrize("policy", ["float32", *HALF])
def test_two_devices_train_as_one(policy, alone, tmp_path):
    each = train(tmp_path, "data", 2, policy=policy)
    assert len(each) == (2 if BACKEND == "torch" else 1)
    for result in each:
        assert result["count"] == 2
        assert result["logits"].shape == (1, 72, 88, 3)
        assert_same(alone(policy), result, TOLERANCES[policy])
        assert_same(each[0], result, 0)


@pytest.mark.skipif(BACKEND != "jax", reason="one process, or torchrun's two")
def test_two_processes_of_jax_train_as_one(alone, tmp_path):
    first, second = train_in_two_processes_of_jax(tmp_path)
    assert first["count"] == 2
    assert_same(alone(), first, TOLERANCES["float32"])
    assert_same(first, second, 0)


@pytest.mark.skipif(BACKEND != "jax", reason="only JAX divides weights")
@pytest.mark.parametrize("policy", ["float32", HALF[0]])
def test_divided_weights_train_as_whole_ones(policy, alone, tmp_path):
    (result,) = train(tmp_path, "model", 2, policy=policy)
    assert_same(alone(policy), result, TOLERANCES[policy])


@pytest.mark.slow
@pytest.mark.skipif(BACKEND == "tensorflow", reason="refused there")
def test_accumulated_gradients_of_two_devices_are_those_of_one(tmp_path):
    (one,) = train(tmp_path / "one", "none", 1, accumulation_steps=2)
    for result in train(tmp_path / "two", "data", 2, accumulation_steps=2):
        assert_same(one, result, TOLERANCES["float32"])


@pytest.mark.slow
def test_resumed_training_goes_on_as_the_uninterrupted_one(alone, tmp_path):
    train(tmp_path, "data", 2, steps=2)
    for result in train(tmp_path, "data", 2, steps=4, resume=True):
        result["loss"] = alone()["loss"]  # the mean of other steps
        assert_same(alone(), result, TOLERANCES["float32"])


@pytest.mark.slow
@pytest.mark.skipif(BACKEND != "torch", reason="one program draws for all devices")
def test_processes_drop_different_features_and_stay_together(tmp_path):
    first, second = train(tmp_path, "data", 2, dropout_rate=0.5)
    assert_same(first, second, 0)
    names = list(first["names"])
    (state,) = [str(i) for i, name in enumerate(names) if "seed_generator" in name]
    assert first[state][0] != second[state][0]


@pytest.mark.slow
def test_two_devices_give_a_model_of_masks_the_gradients_of_one(tmp_path):
    # What the first step leaves as moments. The weights do not compare: Adam moves
    # biases that have no influence by the noise of their gradients.
    def moments(result):
        names = enumerate(result["names"])
        keys = [str(i) for i, name in names if name.endswith("_momentum")]
        return np.concatenate([result[key].ravel() for key in keys])

    settings = {"of_masks": True, "steps": 1}
    (one,) = train(tmp_path / "one", "none", 1, **settings)
    length = np.linalg.norm(moments(one))
    for two in train(tmp_path / "two", "data", 2, **settings):
        assert two["count"] == 2
        np.testing.assert_allclose(two["loss"], one["loss"], rtol=1e-5)
        error = np.linalg.norm(moments(one) - moments(two))
        assert error < 1e-4 * length


@pytest.mark.skipif(BACKEND == "jax", reason="its gradients are those of all devices")
def test_overflow_on_one_device_leaves_the_step_out_on_all(tmp_path):
    finish(start("overflow", tmp_path, 2))


@pytest.mark.skipif(BACKEND == "jax", reason="a step is one program over all devices")
def test_loss_of_masks_is_that_of_all_devices(tmp_path):
    finish(start("masks", tmp_path, 2))
    layer = keras.layers.EinsumDense("bq,q->bq", 5)  # a weight for each query
    layer.build((1, 5))
    layer.kernel.assign(np.linspace(0.5, 2, 5))
    value, (gradient,) = loss_and_gradients(
        layer, lambda x: mask_loss(x[0], 0, 1), np.ones((1, 5), "float32")
    )
    for result in results(tmp_path):
        np.testing.assert_allclose(result["value"], value, rtol=1e-5)
        np.testing.assert_allclose(result["gradient"], gradient, rtol=1e-4, atol=1e-6)


def refused(process):
    output, _ = process.communicate()
    assert "refused: " in output, output
    return output.partition("refused: ")[2].splitlines()[0]


def test_batch_that_cannot_be_divided_is_refused(tmp_path):
    message = refused(start("train", tmp_path, 2, strategy="data", batch=3))
    assert message == (
        "batch_size expects a multiple of 2, the number of devices. Received: 3"
    )


@pytest.mark.skipif(BACKEND == "torch", reason="its processes share any model")
def test_model_made_outside_is_refused(tmp_path):
    message = refused(start("outside", tmp_path, 2))
    assert message.startswith("Make and compile the model inside `distribute`")


@pytest.mark.skipif(BACKEND == "jax", reason="any optimizer works there")
def test_optimizer_that_does_not_share_gradients_is_refused(tmp_path):
    message = refused(start("foreign", tmp_path, 2))
    assert message.endswith("one of `make_optimizer`. Received: AdamW")


@pytest.mark.skipif(BACKEND != "tensorflow", reason="works on the others")
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"accumulation_steps": 2}, "Gradient accumulation fails on several devices"),
        ({"jit_compile": True}, "jit_compile fails on several devices"),
    ],
)
def test_what_several_devices_of_tensorflow_cannot_is_refused(
    settings, message, tmp_path
):
    worker = start("train", tmp_path, 2, strategy="data", **settings)
    assert refused(worker).startswith(message)


@pytest.mark.skipif(BACKEND != "torch", reason="works or is tested above")
def test_graph_on_several_devices_of_torch_is_refused(tmp_path):
    worker = start("train", tmp_path, 2, strategy="data", jit_compile=True)
    assert refused(worker).startswith("jit_compile fails on several devices")


@pytest.mark.skipif(BACKEND != "tensorflow", reason="its variable")
def test_several_processes_of_tensorflow_are_refused(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "{}")
    with pytest.raises(ValueError, match="MultiWorkerMirroredStrategy"):
        distribute("data").__enter__()


@pytest.mark.skipif(BACKEND != "torch", reason="only PyTorch needs it")
def test_torch_without_torchrun_is_refused(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(ValueError, match="torchrun --nproc-per-node=NUMBER"):
        distribute("data").__enter__()


@pytest.mark.skipif(BACKEND == "jax", reason="works there")
def test_divided_weights_are_refused_but_on_jax():
    with pytest.raises(ValueError, match="expects the JAX backend"):
        distribute("model").__enter__()


def test_unknown_strategy_is_refused_with_the_names():
    with pytest.raises(ValueError, match="one of none, data, model"):
        distribute("ddp").__enter__()


@pytest.mark.parametrize("name", [None, "none"])
def test_one_device_is_the_rule(name):
    with distribute(name) as devices:
        assert type(devices) is Devices
        assert devices.chief
        assert devices.shard == (0, 1)
        assert devices.share(7) == 7
        devices.barrier()
        with devices.alone():
            devices.prepare(toy_segmenter())


def model_of(policy):
    images = keras.Input((3,))
    model = keras.Model(images, keras.layers.Dense(2)(images))
    model.dtype_policy = keras.DTypePolicy(policy)
    return model


def test_precision_that_the_device_lacks_is_named(monkeypatch):
    for policy in ("float32", "mixed_bfloat16", "mixed_float16"):
        precision.check_precision(model_of(policy))  # a CPU has them all
    monkeypatch.setattr(precision, "oldest_gpu", lambda: (7, 5))
    precision.check_precision(model_of("mixed_float16"))
    with pytest.raises(ValueError, match=r"Received: 7\.5\. Take mixed_float16"):
        Devices().prepare(model_of("mixed_bfloat16"))
    monkeypatch.setattr(precision, "on_tpu", lambda: True)
    with pytest.raises(ValueError, match="Take mixed_bfloat16"):
        Devices().prepare(model_of("mixed_float16"))
