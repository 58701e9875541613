"""The operators in torch's dispatcher: schema, shape function, autocast, autograd. Importing this registers them."""

from . import conv, filters, interpolation, linear, norm, pool

__all__ = ["conv", "filters", "interpolation", "linear", "norm", "pool"]
