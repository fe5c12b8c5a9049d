"""``python -m experiments.benchmark``: what each piece of OFMU costs here."""

from experiments.shell import signals
from experiments.studies.cost import main

if __name__ == "__main__":
    signals.leave(main)
