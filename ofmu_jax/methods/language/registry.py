"""All baselines for language models: what each needs, its defaults, how it is built.

>>> sorted(METHODS)[:3]
['blur', 'blur_rmu', 'ceu']
>>> METHODS["npo"].needs_reference_nll, METHODS["npo"].config.beta
(True, 0.1)
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

from ofmu_jax.losses import likelihood, preference, reweighted
from ofmu_jax.methods.base import Method
from ofmu_jax.methods.language import builders, configs
from ofmu_jax.methods.language.builders import Setting
from ofmu_jax.methods.language.configs import Range
from ofmu_jax.methods.rules.blur import blur

LEARNING_RATE = Range(1e-5, 1e-2, log=True)  # to search in, for every method alike
_ALPHA = Range(0.1, 10.0, log=True)
_BETA = Range(0.02, 0.5, log=True)


@dataclasses.dataclass(frozen=True)
class MethodSpec:
    """A baseline."""

    title: str
    source: str  # arXiv number of the paper
    config: Any  # default hyper-parameters
    build: Callable[[Any, Setting], Method]  # (config, setting) -> method
    search: Mapping[str, Range]  # of fields of the config, besides the learning rate
    learning_rate: float = 1e-5  # published, for models of billions of parameters
    needs_reference_nll: bool = False  # forget batches carry it
    needs_alternative: bool = False  # forget batches carry it, and its reference NLL
    needs_hidden_fn: bool = False


def build(name: str, setting: Setting, config: Any = None) -> Method:
    """The method ``name`` with ``config`` (its published one by default).

    Raises:
      ValueError: for an unknown name, a config of another method, or a setting
        without what the method needs.
    """
    if name not in METHODS:
        raise ValueError(f"method {name!r} is unknown; choose one of {list(METHODS)}.")
    spec = METHODS[name]
    config = spec.config if config is None else config
    if not isinstance(config, type(spec.config)):
        raise ValueError(
            f"{name} needs a {type(spec.config).__name__}, "
            f"but got a {type(config).__name__}."
        )
    return spec.build(config, setting)


METHODS: dict[str, MethodSpec] = {
    "gradient_ascent": MethodSpec(
        "Gradient ascent", "2401.06121", configs.AscentConfig(), builders.ascent, {}
    ),
    "grad_diff": MethodSpec(
        "GradDiff",
        "2401.06121",
        configs.GradDiffConfig(),
        builders.plain(likelihood.negated_cross_entropy),
        {"alpha": _ALPHA},
    ),
    "kl_minimization": MethodSpec(
        "KL minimisation",
        "2401.06121",
        configs.KlMinimizationConfig(),
        builders.plain(likelihood.negated_cross_entropy),
        {"alpha": _ALPHA},
    ),
    "npo": MethodSpec(
        "NPO",
        "2404.05868",
        configs.NpoConfig(),
        builders.plain(preference.npo, "beta"),
        {"beta": _BETA, "alpha": _ALPHA},
        needs_reference_nll=True,
    ),
    "simnpo": MethodSpec(
        "SimNPO",
        "2410.07163",
        configs.SimNpoConfig(),
        builders.plain(preference.simnpo, "beta", "delta"),
        {
            "beta": Range(1.0, 8.0, log=True),
            "delta": Range(0.0, 2.0),
            "gamma": Range(0.03, 1.0, log=True),
        },
    ),
    "idk_dpo": MethodSpec(
        "IdkDPO",
        "2401.06121",
        configs.IdkDpoConfig(),
        builders.plain(preference.dpo, "beta", forget_cost=2),
        {"beta": _BETA, "alpha": _ALPHA},
        needs_reference_nll=True,
        needs_alternative=True,
    ),
    "rmu": MethodSpec(
        "RMU",
        "2403.03218",
        configs.RmuConfig(),
        builders.rmu,
        {
            "steering": Range(1.0, 100.0, log=True),
            "alpha": Range(0.1, 1000.0, log=True),
        },
        needs_hidden_fn=True,
    ),
    "undial": MethodSpec(
        "UNDIAL",
        "2402.10052",
        configs.UndialConfig(),
        builders.undial,
        {"beta": Range(1.0, 30.0, log=True), "alpha": Range(0.0, 5.0)},
        learning_rate=1e-4,
    ),
    "wga": MethodSpec(
        "WGA",
        "2502.19301",
        configs.WgaConfig(),
        builders.plain(reweighted.wga, "beta"),
        {"beta": Range(0.1, 5.0, log=True), "alpha": _ALPHA},
    ),
    "satimp": MethodSpec(
        "SatImp",
        "2505.11953",
        configs.SatImpConfig(),
        builders.plain(reweighted.satimp, "beta1", "beta2"),
        {
            "beta1": Range(0.5, 10.0, log=True),
            "beta2": Range(0.1, 2.0, log=True),
            "gamma": Range(0.03, 1.0, log=True),
        },
    ),
    "ceu": MethodSpec("CE-U", "2503.01224", configs.CeuConfig(), builders.ceu, {}),
    "pdu": MethodSpec(
        "PDU",
        "2506.05314",
        configs.PduConfig(),
        builders.pdu,
        {
            "epsilon": Range(0.03, 1.0, log=True),
            "multiplier": Range(0.3, 100.0, log=True),
            "dual_step": Range(0.1, 10.0, log=True),
        },
    ),
    "blur": MethodSpec(
        "BLUR",
        "2506.08164",
        configs.BlurConfig(),
        builders.plain(preference.npo, "beta", rule=blur),
        {"beta": _BETA, "alpha": _ALPHA},
        learning_rate=2.5e-5,
        needs_reference_nll=True,
    ),
    "blur_rmu": MethodSpec(
        "BLUR with RMU",
        "2506.08164",
        configs.BlurRmuConfig(),
        functools.partial(builders.rmu, rule=blur),
        {
            "steering": Range(1.0, 100.0, log=True),
            "alpha": Range(1.0, 1000.0, log=True),
        },
        learning_rate=5e-5,
        needs_hidden_fn=True,
    ),
}
