"""``python -m experiments.convergence``: OFMU where linear algebra knows the answer."""

from experiments.shell import signals
from experiments.studies.course import main

if __name__ == "__main__":
    signals.leave(main)
