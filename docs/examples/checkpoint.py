"""A Hugging Face checkpoint: a folder and rows in, a folder out.

    python docs/examples/checkpoint.py MODEL forget.jsonl retain.jsonl OUT

MODEL is a folder or a name on the hub; OUT is one that transformers loads.
"""

import sys

import ofmu_jax


def main(model: str, forget: str, retain: str, out: str, **options):
    """The run, whose model lies in the folder ``out``."""
    run = ofmu_jax.unlearn(model, forget, retain, progress=True, **options)
    print(run)  # probabilities before and after, and why it ended
    run.save_pretrained(out)
    return run


if __name__ == "__main__":
    main(*sys.argv[1:])
