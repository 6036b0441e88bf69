"""A PyTorch program into a Keras model.

Imports NumPy and `converters.program`; Keras and `ulsam_keras` inside functions.
"""

from converters.pytorch.graph.conversion import convert_program as convert_program
from converters.pytorch.graph.conversion import to_keras as to_keras
from converters.pytorch.graph.conversion import unconvertible as unconvertible
from converters.pytorch.graph.registry import converts as converts
from converters.pytorch.graph.report import ProgramReport as ProgramReport
