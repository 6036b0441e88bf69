"""Which network a state dict is of, told by its keys and shapes alone.

A file per layout holds its table, from roles to paths of modules. The data goes: names and shapes
-> ``network_keys`` (which layout, under which path) -> ``entries`` (what each numbered module is)
-> ``reading`` (which block of the network it is) -> ``recognised`` (configuration and name map).
May import the standard library; ulsam_keras and Keras only where the network is built.
"""

from converters.pytorch.layouts.recognised import Recognised
from converters.pytorch.layouts.recogniser import LAYOUTS, recognise

__all__ = ["LAYOUTS", "Recognised", "recognise"]
