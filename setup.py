"""Where packages lie in a wheel; everything else is in pyproject.toml.

The commands are the package `experiments`, which is what a checkout runs (`python -m
experiments.run`). That name is too common for site-packages, so a wheel has it inside
`ofmu_jax_cli`, which finds it in either place. An editable install is the checkout.
"""

import sys

from setuptools import find_packages, setup

HOME = "" if "editable_wheel" in sys.argv else "ofmu_jax_cli."
COMMANDS = find_packages(include=["experiments", "experiments.*"])

setup(
    packages=[
        *find_packages(include=["ofmu_jax", "ofmu_jax.*", "ofmu_jax_cli"]),
        *(f"{HOME}{package}" for package in COMMANDS),
    ],
    package_dir={f"{HOME}experiments": "experiments"} if HOME else {},
)
