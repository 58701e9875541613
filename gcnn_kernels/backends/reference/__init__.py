"""The reference backend: the defining formulas in plain PyTorch, for any device and floating dtype.

    lifting:  y(h, p) = sum_t    w[h^-1 t]          x(p + t)
    group:    y(h, p) = sum_{s,t} w[h^-1 s, h^-1 t]  x(s, p + t)

The sums over t are convolutions with the filters of all h stacked (Cohen & Welling 2016, section 7).
"""

from __future__ import annotations

from ..base import Backend
from . import conv, filters, linear, norm, pool, spatial_pool

BACKEND = Backend(
    "reference",
    unavailable=lambda: None,
    unsupported=lambda device, dtype: None,
    conv=conv,
    filters=filters,
    norm=norm,
    pool=pool,
    spatial_pool=spatial_pool,
    linear=linear,
)
