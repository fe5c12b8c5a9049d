"""A program that gets a signal while jaxlib compiles, which goes on in a thread."""

import os
import sys
import threading

import jax
import jax.numpy as jnp

from experiments.shell import command_line, signals


def compiles_long(x):
    """Some seconds of compilation."""
    for _ in range(800):
        x = jnp.sort(jnp.sin(x @ x), axis=0)
    return x


def work(number: int):
    lowered = jax.jit(compiles_long).lower(jnp.ones((8, 8)))
    threading.Timer(0.3, os.kill, (os.getpid(), number)).start()
    lowered.compile()
    print("the compilation was over before the signal")


def main() -> int:
    number, folder = int(sys.argv[2]), sys.argv[3]
    if sys.argv[1] == "bare":  # a command that handles no signals
        return command_line.tried(lambda: work(number))
    return command_line.status(lambda: work(number), "toy", [], folder)


if __name__ == "__main__":
    signals.leave(main)
