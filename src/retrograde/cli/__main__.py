"""`python -m retrograde.cli` is `retrograde`."""

import sys

from retrograde.cli import main

if __name__ == "__main__":
    sys.exit(main())
