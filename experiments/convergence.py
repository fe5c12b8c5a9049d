"""``python -m experiments.convergence``: OFMU where linear algebra knows the answer."""

import sys

from experiments.studies.course import main

if __name__ == "__main__":
    sys.exit(main())
