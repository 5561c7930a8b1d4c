"""`keras-lrseg VERB`: parses arguments and calls the library; no logic of its own."""

import argparse
import os
import re
import sys
import warnings

from keras_lrseg.cli import (
    convert,
    demo_web,
    evaluate,
    export,
    mine,
    predict,
    profile,
    train,
)

VERBS = {
    "train": train,
    "evaluate": evaluate,
    "predict": predict,
    "export": export,
    "demo-web": demo_web,
    "profile": profile,
    "mine": mine,
    "convert": convert,
}


def main(argv=None) -> int:
    """Run one command; returns the exit status (2 for an expected error)."""
    arguments = _parser().parse_args(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    warnings.formatwarning = _warning
    try:
        arguments.run(arguments)
    except KeyboardInterrupt:
        print(f"\n{arguments.interrupted}", file=sys.stderr)
        return 130
    except Exception as error:
        message = _expected(error)
        if message is None or arguments.traceback:
            raise
        below = "\n" * sys.stdout.isatty()  # a progress bar that it ended
        print(f"{below}keras-lrseg {arguments.verb}: {message}", file=sys.stderr)
        return 2
    return 0


def _warning(message, *_, **__):
    """A warning in one line, without the place in the code that it came from."""
    return f"warning: {message}\n"


def _expected(error):
    """One line about an error that the user can mend; None for any other.

    Only what lists the places of a data set has several.
    """
    # What a dataset's own reader raises inside tf.data arrives as TensorFlow's error.
    from_stream = type(error).__name__ in ("InvalidArgumentError", "UnknownError")
    kinds = (ValueError, OSError, ImportError, FloatingPointError)
    if not isinstance(error, kinds) and not from_stream:
        return None
    text = str(error).strip() or type(error).__name__
    if type(error).__name__ == "WrongLayout":  # its module may not be importable
        return text
    if from_stream and (found := re.search(r"(?:\w*Error|CorruptFile): (.+)", text)):
        return found[1]  # the reader's own message, not what had caused it
    lines = text.splitlines()
    return " ".join(" ".join(lines).split())  # a table's columns too


def _parser():
    parser = argparse.ArgumentParser(
        prog="keras-lrseg",
        description="Train, score, use and export segmentation models.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, module in VERBS.items():
        verb = verbs.add_parser(
            name,
            help=module.SUMMARY,
            description=module.SUMMARY.capitalize() + ".",
            epilog=f"example: {module.EXAMPLE}",
        )
        module.add_arguments(verb)
        verb.add_argument(
            "--traceback", action="store_true", help="show where an error came from"
        )
        verb.set_defaults(
            run=module.run,
            interrupted=getattr(module, "INTERRUPTED", "Interrupted."),
        )
    return parser
