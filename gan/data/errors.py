"""The one exception that the loaders raise for data that is missing, damaged or of another kind."""

from __future__ import annotations


class DataError(RuntimeError):
    """The data set cannot be used; the message names the file or folder, what was expected and what to do."""
