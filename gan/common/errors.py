"""The errors that a user of the commands can fix; their messages name what was expected, what came and what to do."""

from __future__ import annotations


class DataError(RuntimeError):
    """The data set is missing, damaged or of another kind."""


class RunError(Exception):
    """The run cannot start or go on; the message also says what was kept."""
