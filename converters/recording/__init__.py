"""For those who have PyTorch: what a module answers, as a reference file or inside of a `.pt2`.

Imports NumPy and `program`; PyTorch inside functions.
"""

from converters.recording.answers import record as record
from converters.recording.answers import recorded_arrays as recorded_arrays
