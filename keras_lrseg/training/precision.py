"""Whether the devices compute in the precision that a model asks for."""

import keras


def check_precision(model: keras.Model) -> None:
    """Raise a ValueError that names the precision to take instead, or do nothing."""
    policy = model.dtype_policy.name
    gpu = oldest_gpu()
    if policy == "mixed_bfloat16" and gpu is not None and gpu < (8, 0):
        raise ValueError(
            "mixed_bfloat16 expects NVIDIA GPUs of compute capability 8.0 or more. "
            f"Received: {gpu[0]}.{gpu[1]}. Take mixed_float16."
        )
    if policy == "mixed_float16" and on_tpu():
        raise ValueError("A TPU has no float16. Take mixed_bfloat16.")


def oldest_gpu() -> tuple[int, int] | None:
    """Return the lowest compute capability of this process's NVIDIA GPUs, if any."""
    backend = keras.config.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        details = map(tf.config.experimental.get_device_details, gpus)
        found = [d["compute_capability"] for d in details if "compute_capability" in d]
    elif backend == "jax":
        import jax

        names = [getattr(d, "compute_capability", "") for d in jax.local_devices()]
        # AMD's are words.
        names = [name for name in names if name.replace(".", "").isdigit()]
        found = [tuple(map(int, name.split("."))) for name in names]
    else:
        import torch

        nvidia = torch.cuda.is_available() and torch.version.cuda
        found = [torch.cuda.get_device_capability()] if nvidia else []
    return min(found, default=None)


def on_tpu() -> bool:
    """Return whether JAX computes on a TPU."""
    if keras.config.backend() != "jax":
        return False
    import jax

    return jax.default_backend() == "tpu"
