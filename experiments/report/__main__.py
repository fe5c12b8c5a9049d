"""``python -m experiments.report OUT``: the page of a run, made again."""

from experiments.report.write import main
from experiments.shell import signals

if __name__ == "__main__":
    signals.leave(main)
