"""Starts TensorFlow without its start-up chatter on the user's terminal."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from converters.extras import require
from converters.tflite.jobs import fork_worker
from converters.tflite.quiet import without_native_logs


def start_tensorflow() -> None:
    """Imports TensorFlow and lets it look for devices, holding back what it logs of that.

    Raises:
        ImportError: If the extra `convert` is not installed.
    """
    require("Running Keras models for a comparison", "tensorflow")
    fresh = "tensorflow" not in sys.modules
    with without_native_logs(), _nothing_collected():
        import tensorflow as tf
    if fresh:
        fork_worker()
    with without_native_logs():
        tf.config.list_logical_devices()


@contextmanager
def _nothing_collected() -> Iterator[None]:
    """An import makes no garbage: to look for it again and again takes half a second."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
