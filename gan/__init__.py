"""The networks of "Group Equivariant GANs" (Dey et al., ICLR 2021) and their relatives, from data to FID.

``python -m gan`` lists what can be done. From Python: ``gan.options.resolve``, ``gan.training.start.train``,
``gan.runs.load_generator``, and the packages ``networks``, ``objectives``, ``metrics``, ``classifiers``, ``data``.
"""

from pathlib import Path

# Every verb is a module of this package too: ``python -m gan.train`` is ``python -m gan train``.
__path__.append(str(Path(__file__).with_name("commands")))
