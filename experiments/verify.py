"""``python -m experiments.verify OUT``: are the deletion records of a run true?"""

import sys

from experiments.deletion.check import main

if __name__ == "__main__":
    sys.exit(main())
