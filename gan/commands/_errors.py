"""What every command does with errors that the user can fix."""

from __future__ import annotations

import sys
from collections.abc import Callable

from gan.common import distributed
from gan.common.errors import DataError, RunError
from gan.common.files import print_any_name


def reported(command: Callable[[], int | None]) -> int:
    """Run a command and return its exit status: its own, or 1 after "error: ..." on standard error."""
    print_any_name()
    try:
        return command() or 0
    except (RunError, DataError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        distributed.leave()
