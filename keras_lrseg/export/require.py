"""The libraries that exporting needs, which come as an extra."""

import importlib.util


def require(*modules: str) -> None:
    """Raise an ImportError that names the missing modules and what to type."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(
            f"Exporting needs {', '.join(missing)}. "
            "Type: pip install 'keras-lrseg[export]'"
        )
