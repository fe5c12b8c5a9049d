"""``python -m experiments.plan``: what a run will take, before it is paid for."""

from experiments.planning.table import main
from experiments.shell import signals

if __name__ == "__main__":
    signals.leave(main)
