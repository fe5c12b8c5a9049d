"""All attacks by name, one line each."""

from collections.abc import Iterable, Mapping

from ofmu_jax.attacks import asking, compression, membership
from ofmu_jax.attacks.base import Attack

ATTACKS: Mapping[str, Attack] = {
    "int8": compression.INT8,
    "int4": compression.INT4,
    "nf4": compression.NF4,
    "fp4": compression.FP4_ATTACK,
    "prune": compression.PRUNING,
    "paraphrase": asking.PARAPHRASES,
    "agreement": asking.AGREEMENT,
    "first_tokens": asking.FIRST_TOKENS,
    "sampling": asking.SAMPLING,
    "least_likely": asking.LEAST_LIKELY,
    "mia_loss": membership.LOSS,
    "mia_zlib": membership.ZLIB,
    "mia_reference": membership.REFERENCE,
    "mia_min_k": membership.MIN_K,
    "mia_min_k_plus_plus": membership.MIN_K_PLUS_PLUS,
    "mia_grad_norm": membership.GRAD_NORM,
}


def chosen(names: Iterable[str]) -> dict[str, Attack]:
    """The attacks of those names, in the order of the registry; ``all`` are all.

    Raises:
      ValueError: for a name that is not known.
    """
    names = set(names)
    if unknown := sorted(names - {"all", *ATTACKS}):
        raise ValueError(
            f"--attacks {unknown[0]} is unknown; choose all or some of "
            f"{', '.join(ATTACKS)}."
        )
    return {k: v for k, v in ATTACKS.items() if k in names or "all" in names}
