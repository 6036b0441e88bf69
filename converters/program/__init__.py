"""A `torch.export` archive (`.pt2`) as data: graph, weights, example inputs. No PyTorch needed.

May import `checkpoint`, NumPy and the standard library.
"""

from converters.program.program import Argument as Argument
from converters.program.program import Dimension as Dimension
from converters.program.program import Dtype as Dtype
from converters.program.program import End as End
from converters.program.program import Meta as Meta
from converters.program.program import Module as Module
from converters.program.program import Node as Node
from converters.program.program import Program as Program
from converters.program.program import Ref as Ref
from converters.program.program import Weight as Weight
from converters.program.reading import read_program as read_program
from converters.program.specialising import at_example_sizes as at_example_sizes
from converters.program.summary import Summary as Summary
from converters.program.summary import summarise as summarise
