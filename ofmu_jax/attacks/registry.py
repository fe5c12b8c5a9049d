"""All attacks by name, one line each."""

from collections.abc import Iterable, Mapping

from ofmu_jax.attacks import (
    asking,
    compression,
    few_shot,
    looking,
    membership,
    probing,
    relearning,
    teaching,
)
from ofmu_jax.attacks.base import Attack

ATTACKS: Mapping[str, Attack] = {
    "relearn": relearning.ALL,
    "relearn-retain": relearning.RETAIN,
    "relearn-text": relearning.TEXT,
    "relearn-part": relearning.PART,
    "teach-test": teaching.TEACH_TEST,
    "lora-retain": few_shot.ON_RETAIN,
    "lora-forget": few_shot.ON_FORGET,
    "int8": compression.INT8,
    "int4": compression.INT4,
    "nf4": compression.NF4,
    "fp4": compression.FP4_ATTACK,
    "prune": compression.PRUNING,
    "paraphrase": asking.PARAPHRASES,
    "agreement": asking.AGREEMENT,
    "first-tokens": asking.FIRST_TOKENS,
    "sampling": asking.SAMPLING,
    "least-likely": asking.LEAST_LIKELY,
    "lens": looking.LENS,
    "depth": looking.DEPTH,
    "probe": probing.PROBE,
    "mia-loss": membership.LOSS,
    "mia-zlib": membership.ZLIB,
    "mia-reference": membership.REFERENCE,
    "mia-min-k": membership.MIN_K,
    "mia-min-k-plus": membership.MIN_K_PLUS_PLUS,
    "mia-grad-norm": membership.GRAD_NORM,
}


def chosen(
    names: Iterable[str], attacks: Mapping[str, Attack] = ATTACKS
) -> dict[str, Attack]:
    """The attacks of those names, in the order of the registry; ``all`` are all.

    Raises:
      ValueError: for a name that is not known.
    """
    names = set(names)
    if unknown := sorted(names - {"all", *attacks}):
        raise ValueError(
            f"--attacks {unknown[0]} is unknown; choose all or some of "
            f"{', '.join(attacks)}."
        )
    return {k: v for k, v in attacks.items() if k in names or "all" in names}
