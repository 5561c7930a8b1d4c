"""Runs an exported file in its own runtime: the process behind `artifact.Artifact`.

    python worker.py FILE THREADS

Started as a script, so that neither Keras nor this package is loaded beside the
runtime, and the memory it takes is the file's. It answers each image (H, W, 3) of the
standard input with the file's output, without the batch axis, and with two numbers:
milliseconds, and how many MiB the memory's peak has grown since before the file was
opened, with the runtime there already. An array is a line of JSON, its type and shape,
and its bytes.
"""

import importlib
import json
import math
import os
import pathlib
import re
import sys
import time

import numpy as np


def tflite(path, threads):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=threads)
    interpreter.allocate_tensors()
    (given,), (asked,) = (
        interpreter.get_input_details(),
        interpreter.get_output_details(),
    )

    def run(image):
        interpreter.set_tensor(given["index"], image[None])
        interpreter.invoke()
        return interpreter.get_tensor(asked["index"])

    return run, given["dtype"]


def onnx(path, threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        str(path), options, providers=["CPUExecutionProvider"]
    )
    (given,) = session.get_inputs()
    dtype = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}[given.type]
    return lambda image: session.run(None, {given.name: image[None]})[0], dtype


def saved_model(path, threads):
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    serve = tf.saved_model.load(str(path)).signatures["serving_default"]
    (spec,) = serve.structured_input_signature[1].values()

    def run(image):
        (output,) = serve(**{spec.name: tf.constant(image[None])}).values()
        return output.numpy()

    return run, spec.dtype.as_numpy_dtype


RUNTIMES = {
    ".tflite": ("ai_edge_litert.interpreter", tflite),
    ".onnx": ("onnxruntime", onnx),
}


def send(stream, array):
    """Write an array on a pipe."""
    array = np.asarray(array)
    header = json.dumps([array.dtype.str, array.shape])
    stream.write(header.encode() + b"\n" + array.tobytes())
    stream.flush()


def receive(stream):
    """Read an array from a pipe; None at its end."""
    header = stream.readline()
    if not header:
        return None
    dtype, shape = json.loads(header)
    content = stream.read(np.dtype(dtype).itemsize * math.prod(shape))
    return np.frombuffer(content, dtype).reshape(shape)


def peak_mib():
    """Largest resident memory of this process until now."""
    status = pathlib.Path("/proc/self/status")
    if status.exists():  # what getrusage says on Linux includes the parent's memory
        return int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1]) / 2**10
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # macOS


def main(path, threads):
    # Runtimes may write on the standard output, which here carries arrays alone.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    runtime, load = RUNTIMES.get(path.suffix, ("tensorflow", saved_model))
    importlib.import_module(runtime)  # whose own memory is not the file's
    before = peak_mib()
    run, dtype = load(path, threads)
    while (image := receive(sys.stdin.buffer)) is not None:
        image = image.astype(dtype)
        start = time.perf_counter()
        output = run(image)[0]
        milliseconds = 1e3 * (time.perf_counter() - start)
        send(answers, output)
        send(answers, [milliseconds, peak_mib() - before])


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), int(sys.argv[2]))
