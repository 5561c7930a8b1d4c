"""The comparison of an exported file with its model, and what it showed."""

import dataclasses
import pathlib
import tempfile
from collections.abc import Sequence

import keras
import numpy as np

from keras_lrseg import evaluation
from keras_lrseg.data import SegmentationDataset
from keras_lrseg.export import flatbuffer
from keras_lrseg.export.artifact import Artifact
from keras_lrseg.export.interface import Interface
from keras_lrseg.export.operators import Operators

# A file of float32 may differ from its model by this much.
MAX_DEVIATION = 1e-3  # of the standard deviation of the model's output
MIN_AGREEMENT = 0.999  # of the labels

TIMED_RUNS = 5


@dataclasses.dataclass(frozen=True)
class Report:
    """What running an exported file in its own runtime showed.

    Args:
        path: of the file, or of a SavedModel's folder.
        size_mib: its size.
        images: number of images that file and model were compared on. 0: it has
            operators that LiteRT lacks, and nothing of the following is known.
        agreement: share of labels that are the model's.
        deviation: largest difference from the model, in standard deviations of its
            output; None for labels.
        milliseconds: of an image, the median.
        threads: of the runtime.
        peak_mib: growth of the runtime's memory by loading and running the file.
        operators: of a TFLite file.
        model_scores, file_scores: on labelled images, if there were any.
    """

    path: pathlib.Path
    size_mib: float
    images: int = 0
    agreement: float | None = None
    deviation: float | None = None
    milliseconds: float | None = None
    threads: int | None = None
    peak_mib: float | None = None
    operators: Operators | None = None
    model_scores: evaluation.Scores | None = None
    file_scores: evaluation.Scores | None = None

    def __str__(self) -> str:
        lines = [f"{self.path}: {self.size_mib:.2f} MiB"]
        if self.images:
            compared = f"{self.agreement:.2%} of the labels are the model's"
            if self.deviation is not None:
                compared += (
                    f", largest difference {self.deviation:.1e} of the deviation"
                )
            lines += [
                f"on {self.images} images {compared}",
                f"{self.milliseconds:.1f} ms an image with {self.threads} threads, "
                f"{self.peak_mib:.0f} MiB of memory",
            ]
        else:
            lines.append("not run: LiteRT has not all of its operators")
        if self.file_scores:
            scores = self.file_scores.miou, self.model_scores.miou
            lines.append("mIoU {:.4f}, of the model {:.4f}".format(*scores))
        return "\n".join(lines + ([str(self.operators)] if self.operators else []))


def check(
    model: keras.Model,
    path: pathlib.Path,
    interface: Interface,
    images: Sequence[np.ndarray],
    exact: bool = True,
    dataset: SegmentationDataset | None = None,
    threads: int = 2,
) -> Report:
    """Run a file in its own runtime and compare it with its model.

    Args:
        model: what the file was made of.
        path: of the file or folder.
        interface: of the file.
        images: uint8 (H, W, 3), of any size; at least one.
        exact: raise if they differ by more than rounding. False: for files of a lower
            precision, only a value that is no finite number raises.
        dataset: labelled images to score both on.
        threads: of the runtime.

    Raises:
        ValueError: if the runtime refuses the file, the two disagree, a logit of either
            is no finite number, or no pixel of the dataset is labelled.
    """
    reference = interface.reference(model)
    images = [evaluation.resize_image(image, interface.size) for image in images]
    deviation, same, total = 0.0, 0, 0
    with Artifact(path, threads) as artifact:
        for image in images:
            expected, got = reference(image), artifact.run(image)
            if interface.output != "labels":
                # The maximum keeps a NaN.
                deviation = float(np.maximum(deviation, _deviation(got, expected)))
                expected, got = expected.argmax(-1), got.argmax(-1)
            same += int((got == expected).sum())
            total += got.size
        agreement = same / total
        _judge(deviation, agreement, exact)
        if interface.output == "labels" and path.suffix == ".tflite":
            _check_logits(path, images, threads)
        artifact.milliseconds.clear()  # the first runs are slower
        for _ in range(TIMED_RUNS):
            artifact.run(image)
        milliseconds = float(np.median(artifact.milliseconds))
        scores = None, None
        if dataset is not None:
            scores = (
                _scores(dataset, interface, reference),
                _scores(dataset, interface, artifact.run),
            )
    return Report(
        path=path,
        size_mib=size_mib(path),
        images=len(images),
        agreement=agreement,
        deviation=None if interface.output == "labels" else deviation,
        milliseconds=milliseconds,
        threads=threads,
        peak_mib=artifact.peak_mib,
        model_scores=scores[0],
        file_scores=scores[1],
    )


def _deviation(got, expected):
    """Largest difference, in standard deviations of what is expected."""
    difference = np.abs(got - expected).max()
    if difference == 0:
        return 0.0  # also of an output that is the same everywhere
    with np.errstate(divide="ignore"):
        return difference / expected.std()


def _check_logits(path, images, threads):
    """Refuse a file of labels whose logits are not finite: no label shows a NaN."""
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "logits.tflite"
        file.write_bytes(_with_logits(path))
        with Artifact(file, threads) as artifact:
            finite = all(np.isfinite(artifact.run(image)).all() for image in images)
    if not finite:
        raise ValueError(
            "The exported file's logits are not finite numbers (NaN or infinity), the "
            "model's are. It was not kept; export another precision (--precision)."
        )


def _with_logits(path):
    """The content of a TFLite file of labels that gives what the labels are made of."""
    model = flatbuffer.read(path.read_bytes())
    *_, argmax = (x for x, kind in flatbuffer.operators(model) if kind == "ARG_MAX")
    model.subgraphs[0].outputs = [argmax.inputs[0]]
    model.signatureDefs = None  # they name the old output
    return flatbuffer.pack(model)


def _judge(deviation, agreement, exact):
    if exact:
        # NaN must fail too, hence the negation.
        bad = not (deviation <= MAX_DEVIATION and agreement >= MIN_AGREEMENT)
    else:
        bad = not np.isfinite(deviation)
    if bad:
        raise ValueError(
            f"The exported file disagrees with the model: largest difference "
            f"{deviation:.1e} of the standard deviation (allowed {MAX_DEVIATION:.0e}), "
            f"{agreement:.2%} equal labels (allowed {MIN_AGREEMENT:.1%}). It was not "
            "kept."
        )


def _scores(dataset, interface, run):
    """Scores at the masks' size: logits enlarged bilinearly, labels by nearest."""
    confusion = 0
    for image, mask in dataset:
        output = run(evaluation.resize_image(image, interface.size))
        if interface.output == "labels":
            rows, columns = (
                (2 * np.arange(n) + 1) * m // (2 * n)
                for n, m in zip(mask.shape, output.shape, strict=True)
            )
            labels = output[rows[:, None], columns]
        else:
            labels = evaluation.labels_of(output[None], mask.shape)
        confusion = confusion + evaluation.confusion_matrix(
            mask, labels, len(dataset.classes)
        )
    if not np.any(confusion):
        raise ValueError(
            "No pixel of the dataset is labelled: all of its masks are 255 (ignored). "
            "Give other masks (--images, --masks), or none for no scores."
        )
    return evaluation.Scores(confusion, tuple(dataset.classes))


def size_mib(path: pathlib.Path) -> float:
    """Size of a file, or of all the files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files) / 2**20
