"""Files of floats, converted while the caller does something else.

Imports the standard library only; the exporter is given.
"""

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from converters.tflite.export import Exporter
    from converters.tflite.flatbuffer import TfliteFile


class Ahead:
    """Conversions under way in the converter's process, which this one would only wait for.

    Its thread is not waited for: who gives up does so at once.

    Args:
        exporter: What converts; until the last file is taken nothing else should use it.
        precisions: Those that need no data, one after the other.
    """

    def __init__(self, exporter: "Exporter", precisions: Sequence[str]) -> None:
        self._exporter = exporter
        self._done = {precision: threading.Event() for precision in precisions}
        self._results: dict[str, TfliteFile | BaseException] = {}
        threading.Thread(target=self._convert, daemon=True).start()

    def _convert(self) -> None:
        for precision, done in self._done.items():
            try:
                self._results[precision] = self._exporter.convert(precision)
            except BaseException as error:
                self._results[precision] = error
            done.set()

    def __contains__(self, precision: str) -> bool:
        return precision in self._done

    def take(self, precision: str) -> "TfliteFile":
        """Waits for a file.

        Raises:
            ValueError: As `Exporter.convert`.
        """
        self._done[precision].wait()
        result = self._results.pop(precision)
        if isinstance(result, BaseException):
            raise result
        return result
