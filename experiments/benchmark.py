"""``python -m experiments.benchmark``: what each piece of OFMU costs here."""

import sys

from experiments.studies.cost import main

if __name__ == "__main__":
    sys.exit(main())
