"""Ctrl-C in the middle of compiled code."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def interruptible() -> Iterator[Callable[[], None]]:
    """Yield a function that raises KeyboardInterrupt if Ctrl-C came: call it often.

    An exception raised wherever Python happens to be would not do: where the compiled
    code of a library called it, as JAX and TensorFlow do, it often goes no further. The
    second Ctrl-C does raise there.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT)
    interrupted = False

    def interrupt(*arguments):
        nonlocal interrupted
        if interrupted:
            signal.default_int_handler(*arguments)
        interrupted = True
        # print is not for signal handlers: it may have been interrupted itself
        os.write(2, b"\nStopping after this step; Ctrl-C again stops at once.\n")

    def check():
        if interrupted:
            raise KeyboardInterrupt

    if not in_main_thread or handler is not signal.default_int_handler:
        yield check  # the program has a way of its own
        return
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, handler)
