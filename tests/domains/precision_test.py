"""Float32 products are float32 products, unless the run asks for less."""

import jax
import pytest

from experiments.config.language import Demo
from experiments.domains import of


@pytest.fixture(autouse=True)
def as_before():
    before = jax.config.values["jax_default_matmul_precision"]
    yield
    jax.config.update("jax_default_matmul_precision", before)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "highest"),
        ({"matmul_precision": "default"}, "default"),
        ({"dtype": "bfloat16"}, None),
    ],
)
def test_a_run_says_how_its_products_are_rounded(options, expected):
    domain = of.domain_of(Demo(**options))
    assert jax.config.values["jax_default_matmul_precision"] == expected
    assert domain.run.rounding == (("default",) if expected == "default" else ())


def test_rounding_is_part_of_what_is_made():
    found = [
        of.domain_of(Demo(matmul_precision=precision)).identity
        for precision in ("highest", "high", "default")
    ]
    assert len(set(found)) == 3
