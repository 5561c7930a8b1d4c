"""An exported file at work in its own runtime, in a process of its own."""

import pathlib
import subprocess
import sys
import tempfile

import numpy as np

from keras_lrseg.export.worker import receive, send

WORKER = pathlib.Path(__file__).with_name("worker.py")


class Artifact:
    """A TFLite file, an ONNX file or a SavedModel folder that is run on images.

    A context manager. LiteRT, onnxruntime or TensorFlow runs in a fresh process.

    Args:
        path: of the file or folder.
        threads: of the runtime.

    Example:

    >>> with Artifact("street.tflite") as artifact:
    ...     labels = artifact.run(image)
    """

    def __init__(self, path: str | pathlib.Path, threads: int = 2):
        self.path = pathlib.Path(path)
        self.threads = threads
        self.milliseconds: list[float] = []
        self.peak_mib = 0.0

    def __enter__(self) -> "Artifact":
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [sys.executable, str(WORKER), str(self.path), str(self.threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
        )
        return self

    def run(self, image: np.ndarray) -> np.ndarray:
        """Return the file's output for an image (H, W, 3), without the batch axis.

        `milliseconds` and `peak_mib`, the memory that the file needed, are kept.

        Raises:
            ValueError: if the runtime refuses the file or the image.
        """
        try:
            send(self.process.stdin, image)
        except BrokenPipeError:
            output = None
        else:
            output = receive(self.process.stdout)
        if output is None:
            self.process.wait()
            self.log.seek(0)
            last = (self.log.read().strip().splitlines() or ["no message"])[-1]
            raise ValueError(f"{self.path} cannot be run: {last}")
        milliseconds, self.peak_mib = receive(self.process.stdout)
        self.milliseconds.append(milliseconds)
        return output

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()
        self.log.close()
