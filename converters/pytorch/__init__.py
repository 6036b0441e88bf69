"""PyTorch weights into Keras layers and models, with an account of every key.

The data goes: state dict -> ``modules`` (which modules are there) -> ``targets`` (which layers want
weights, and which module each takes) -> ``tables`` (which key fills which weight, and how) ->
``port`` (plan, check, assign) -> ``port_report``. May import NumPy, and Keras and ulsam_keras only
inside functions; never TensorFlow or PyTorch.
"""

from converters.pytorch.modules import UlsamSite, find_ulsam
from converters.pytorch.port import ignored_keys, port_weights
from converters.pytorch.port_report import PortReport, SourceRecord, WeightRecord, modules_of

__all__ = [
    "PortReport",
    "SourceRecord",
    "UlsamSite",
    "WeightRecord",
    "find_ulsam",
    "ignored_keys",
    "modules_of",
    "port_weights",
]
