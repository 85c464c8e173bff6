"""Makes ``python -m kowalski.cli`` the same as ``./kowalski.py``, once everything is installed."""

import sys

from kowalski.cli.main import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
