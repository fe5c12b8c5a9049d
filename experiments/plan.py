"""``python -m experiments.plan``: what a run will take, before it is paid for."""

import sys

from experiments.planning.table import main

if __name__ == "__main__":
    sys.exit(main())
