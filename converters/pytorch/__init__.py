"""PyTorch weights into Keras layers and models, with an account of every key.

The data goes: state dict -> ``modules`` (which modules are there) -> ``targets`` (which layers want
weights, and which module each takes) -> ``tables`` (which key fills which weight, and how) ->
``port`` (plan, check, assign) -> ``ledger``. May import NumPy, and Keras and ulsam_keras only
inside functions; never TensorFlow or PyTorch.
"""

from converters.pytorch.ledger import Ledger, SourceRecord, WeightRecord
from converters.pytorch.modules import UlsamSite, find_ulsam
from converters.pytorch.port import port_weights

__all__ = ["Ledger", "SourceRecord", "UlsamSite", "WeightRecord", "find_ulsam", "port_weights"]
