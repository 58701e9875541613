"""``python -m gan.networks`` is ``python -m gan networks``."""

import sys

from gan.commands.networks import main

if __name__ == "__main__":
    sys.exit(main())
