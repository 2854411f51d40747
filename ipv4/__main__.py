"""``python -m ipv4`` is the ``ipv4`` command."""

import sys

from ipv4.cli import main

if __name__ == "__main__":
    sys.exit(main())
