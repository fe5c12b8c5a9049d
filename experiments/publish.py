"""``python -m experiments.publish RUN_DIR FILE``: a run's numbers as one small file."""

import sys

from experiments.publishing.run import main

if __name__ == "__main__":
    sys.exit(main())
