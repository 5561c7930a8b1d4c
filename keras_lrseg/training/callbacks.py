"""What happens beside the steps of a training: scores, logs, pictures, its end."""

import csv
import math
import time

import keras

from keras_lrseg.analysis import contact_picture
from keras_lrseg.data import atomic_path
from keras_lrseg.evaluation import evaluate, evaluate_classifier


class Throughput(keras.callbacks.Callback):
    """Put "images_per_s" into the logs, and the "learning_rate" of each epoch.

    Counted from the end of an epoch's first batch, which may have to be compiled.

    Args:
        batch_size: images in a batch of `fit`, over all devices.
    """

    def __init__(self, batch_size):
        super().__init__()
        self.batch_size = batch_size

    def on_train_batch_end(self, batch, logs=None):
        if batch == 0:
            self.start = time.perf_counter()
        self.batches = batch
        self._add(logs)

    def on_epoch_end(self, epoch, logs=None):
        self._add(logs)
        if logs is not None:
            rate = self.model.optimizer.learning_rate
            logs["learning_rate"] = float(keras.ops.convert_to_numpy(rate))

    def _add(self, logs):
        if logs is not None and self.batches:
            seconds = time.perf_counter() - self.start
            logs["images_per_s"] = self.batches * self.batch_size / seconds


class Validation(keras.callbacks.Callback):
    """Score a dataset at the end of every epoch, as "val_miou" in the logs.

    Args:
        dataset: a `SegmentationDataset`.
        settings: `TestSettings`; None: whole images.
        progress: wraps the indices of the images, as in `evaluate`.
    """

    def __init__(self, dataset, settings=None, progress=None):
        super().__init__()
        self.dataset = dataset
        self.settings = settings
        self.progress = progress

    def on_epoch_end(self, epoch, logs=None):
        scores = evaluate(self.model, self.dataset, self.settings, self.progress)
        if logs is not None:
            logs["val_miou"] = scores.miou


class ClassifierValidation(keras.callbacks.Callback):
    """Score a dataset at the end of every epoch, as "val_top1" in the logs.

    Args:
        dataset: a `ClassificationDataset`.
        size: side of the middle that is seen, in pixels.
        progress: wraps the indices of the batches, as in `evaluate_classifier`.
    """

    BATCH_SIZE = 32

    def __init__(self, dataset, size, progress=None):
        super().__init__()
        self.dataset = dataset
        self.size = size
        self.progress = progress

    def on_epoch_end(self, epoch, logs=None):
        scores = evaluate_classifier(
            self.model, self.dataset, self.size, self.BATCH_SIZE, self.progress
        )
        if logs is not None:
            logs["val_top1"] = scores.top1


class Alone(keras.callbacks.Callback):
    """Run a callback's end of an epoch with the model on one device.

    Every process scores the whole validation data: none waits for another. A model that
    has broken is not scored.

    Args:
        callback: predicts single images.
        devices: of the training.
    """

    def __init__(self, callback, devices):
        super().__init__()
        self.callback = callback
        self.devices = devices

    def set_model(self, model):
        super().set_model(model)
        self.callback.set_model(model)

    def on_epoch_end(self, epoch, logs=None):
        if math.isfinite((logs or {}).get("loss", 0.0)):
            with self.devices.alone():
                self.callback.on_epoch_end(epoch, logs)


class Log(keras.callbacks.Callback):
    """Write the figures of every epoch to a CSV file.

    Keras's `CSVLogger` invents validation columns where no validation is.

    Args:
        path: of the file.
        first_epoch: of this run; lines of earlier ones stay, others were not resumed.
    """

    def __init__(self, path, first_epoch=0):
        super().__init__()
        self.path = path
        self.rows = []
        if first_epoch and path.exists():
            with open(path, newline="") as file:
                rows = list(csv.DictReader(file))
            try:
                self.rows = [row for row in rows if int(row["epoch"]) < first_epoch]
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(
                    f"{path} is no log of a run ({error!r}). Remove it: the run can be "
                    "resumed without, only the curve of what was is lost."
                ) from None

    def has(self, epoch):
        """Whether the file already holds an epoch that is not written again."""
        return any(int(row["epoch"]) == epoch for row in self.rows)

    def on_epoch_end(self, epoch, logs=None):
        self.rows.append({"epoch": epoch, **(logs or {})})
        columns = dict.fromkeys(name for row in self.rows for name in row)
        with (
            atomic_path(self.path) as temporary,
            open(temporary, "w", newline="") as file,
        ):
            writer = csv.DictWriter(file, list(columns))
            writer.writeheader()
            writer.writerows(self.rows)


class StopAfter(keras.callbacks.Callback):
    """End the training after so many batches, in the middle of an epoch too."""

    def __init__(self, batches):
        super().__init__()
        self.left = batches

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            self.model.stop_training = True


class StopAtNaN(keras.callbacks.Callback):
    """End the training after the batch whose loss is not finite, and keep its number.

    Attributes:
        batch: of this run, counted from 1; None while all is well.
    """

    def __init__(self):
        super().__init__()
        self.seen, self.batch = 0, None

    def on_train_batch_end(self, batch, logs=None):
        self.seen += 1
        if self.batch is None and not math.isfinite((logs or {}).get("loss", 0.0)):
            self.batch = self.seen
            self.model.stop_training = True


class TensorBoard(keras.callbacks.Callback):
    """Write every figure of the logs for TensorBoard, and what the model predicts.

    Keras's own writes weights and graphs too, and none of what other callbacks add.

    Args:
        folder: of the run's event files; None: predict like the process that writes
            them, for the processes of JAX compute together.
        epoch_steps: steps of an epoch: TensorBoard's axis are steps.
        validation: a `SegmentationDataset` whose first images are shown; None: none.
        test: the `TestSettings` they are seen with.
    """

    IMAGES = 3

    def __init__(self, folder, epoch_steps, validation=None, test=None):
        super().__init__()
        self.folder = folder
        self.epoch_steps = epoch_steps
        self.validation = validation
        self.test = test

    def on_epoch_end(self, epoch, logs=None):
        import tensorflow as tf

        picture = None
        if self.validation is not None:
            rows = range(min(self.IMAGES, len(self.validation)))
            picture = contact_picture(self.model, self.validation, rows, self.test)
        if self.folder is None:
            return
        writer = tf.summary.create_file_writer(str(self.folder))
        with writer.as_default(step=(epoch + 1) * self.epoch_steps):
            for name, value in (logs or {}).items():
                tf.summary.scalar(name, value)
            if picture is not None:
                tf.summary.image("validation", picture[None])
        writer.close()
