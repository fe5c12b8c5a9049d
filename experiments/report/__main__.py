"""``python -m experiments.report OUT``: the page of a run, made again."""

import sys

from experiments.report.write import main

if __name__ == "__main__":
    sys.exit(main())
