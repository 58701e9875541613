"""``python -m gan.data`` is ``python -m gan data``."""

import sys

from gan.commands.data import main

if __name__ == "__main__":
    sys.exit(main())
