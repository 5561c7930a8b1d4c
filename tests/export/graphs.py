"""TFLite files of single functions."""


def tflite_of(function, shape, dtype="float32"):
    """Convert a TensorFlow function of one tensor, whatever its operators."""
    import tensorflow as tf

    traced = tf.function(function, input_signature=[tf.TensorSpec(shape, dtype)])
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [traced.get_concrete_function()]
    )
    converter.target_spec.supported_ops = [
        tf.lite.OpsSet.TFLITE_BUILTINS,
        tf.lite.OpsSet.SELECT_TF_OPS,
    ]
    return converter.convert()
