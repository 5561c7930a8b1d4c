"""Models of half precision rebuilt in float32, which the converters want."""

import keras


def in_float32(model: keras.Model) -> keras.Model:
    """Return the model, rebuilt with its weights if parts compute in half precision.

    Weights of mixed policies are float32 anyway.
    """
    config = model.get_config()
    single = _float32_policies(config)
    if single == config:
        return model
    rebuilt = type(model).from_config(single)
    rebuilt.set_weights(model.get_weights())
    return rebuilt


def _float32_policies(config):
    """Copy a serialised configuration with float32 in place of every dtype policy."""
    if isinstance(config, dict):
        if config.get("class_name") == "DTypePolicy":
            return {**config, "config": {"name": "float32"}}
        return {key: _float32_policies(value) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return type(config)(map(_float32_policies, config))
    return config
