"""``python -m experiments.verify OUT``: are the deletion records of a run true?"""

from experiments.deletion.check import main
from experiments.shell import signals

if __name__ == "__main__":
    signals.leave(main)
