"""The variants of an ablation: what differs from the run's own configuration."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, Literal, get_args

from experiments.config.language import LanguageRun, OfmuConfig
from experiments.stages.files import fingerprint
from ofmu_jax.choices import PENALTY_GRADIENTS_OF, Base, Curvature, RetainDirection
from ofmu_jax.methods.inner_optimizers import InnerOptimizer
from ofmu_jax.methods.language.ofmu import ForgetLoss, paper_setting
from ofmu_jax.methods.ofmu import NAME as OFMU
from ofmu_jax.methods.ofmu import RhoControl, inner_rate

Group = Literal[
    "beta",
    "rho",
    "rho_control",
    "rho_growth",
    "inner_steps",
    "outer_steps",
    "base",
    "retain_direction",
    "penalty_gradient",
    "curvature",
    "inner_optimizer",
    "forget_loss",
    "paper",
    "weighting",
    "difficulty",
]
GROUPS: tuple[Group, ...] = get_args(Group)
# Methods whose forget rows are split by difficulty.
SPLIT = (OFMU, "gradient_ascent", "grad_diff", "npo")
SIMILARITIES = (
    (0.0, "cosine"),
    (0.1, "cosine"),
    (1.0, "cosine"),
    (0.1, "squared_cosine"),
    (1.0, "squared_cosine"),
    (10.0, "squared_cosine"),
)
CHOICES: dict[str, tuple[Any, ...]] = {
    "rho_control": get_args(RhoControl),
    "rho_growth": (1.0, 1.02, 1.1),
    "inner_steps": (1, 2, 5),
    "outer_steps": (1, 2, 4),
    "base": get_args(Base),
    "retain_direction": get_args(RetainDirection),
    "curvature": get_args(Curvature),
    "forget_loss": get_args(ForgetLoss),
}
TITLES: dict[Group, str] = {
    "beta": "β, and the form of the similarity",
    "rho": "ρ, weight of the penalty",
    "rho_control": "What sets ρ",
    "rho_growth": "Growth of ρ",
    "inner_steps": "T, inner steps",
    "outer_steps": "Outer steps to an inner loop",
    "base": "Where the outer step starts",
    "retain_direction": "Retain gradient in the similarity",
    "penalty_gradient": "How the penalty is differentiated",
    "curvature": "How ∇Φ is computed",
    "inner_optimizer": "Inner optimizer",
    "forget_loss": "Forget loss",
    "paper": "The paper's literal setting",
    "weighting": "Retain weights against ρ",
    "difficulty": "Forget rows, easy to hard",
}
SYMBOLS = {
    "rho": "ρ",
    "rho_control": "control of ρ",
    "rho_growth": "growth γ of ρ",
    "inner_steps": "T",
    "outer_steps": "outer steps",
    "base": "outer step from",
    "retain_direction": "retain direction",
    "penalty_gradient": "penalty gradient",
    "forget_loss": "forget loss",
    "inner_learning_rate": "η_in",
}


@dataclasses.dataclass(frozen=True)
class AblationOptions:
    """What is varied and what is measured."""

    groups: tuple[Group, ...] = GROUPS
    """What to vary. beta: β and the similarity's form; rho; rho_control: what sets ρ;
    rho_growth: by what it grows; inner_steps: T; outer_steps: to an inner loop; base:
    where they start; retain_direction: the similarity's retain gradient;
    penalty_gradient, curvature: how the penalty and ∇Φ are computed; inner_optimizer;
    forget_loss; paper: its setting; weighting: retain weights of grad_diff and npo
    against ρ; difficulty: the forget rows split, easy to hard."""
    evaluate: bool = False
    """Evaluate every variant in full (KS distance, model utility, …), not only on the
    training rows."""
    rhos: tuple[float, ...] = (0.0, 1e-3, 1e-2, 1e-1, 1.0)
    """Values of ρ in the group rho."""
    multiples: tuple[float, ...] = (0.1, 0.3, 1.0, 3.0, 10.0)
    """In the group weighting: multiples of the configured retain weight α of grad_diff
    and npo, and of OFMU's ρ and inner learning rate."""
    difficulty_groups: int = 6
    """In the group difficulty: how many groups the forget rows are split into."""
    resamples: int = 5000
    """Bootstrap resamples, and permutations, behind a correlation."""


@dataclasses.dataclass(frozen=True)
class Variant:
    """One configuration of one method, as a row of a group."""

    group: str
    label: str
    method: str
    config: Any
    key: str  # equal for equal configurations; the method's name for the run's own
    series: str = ""  # in the group weighting: what is varied, "method field"


def canonical(config: Any) -> Any:
    """The configuration with options that have no effect at one value each.

    Without a penalty its schedule and its gradient mean nothing, without the
    similarity term its form and the direction it is taken to.
    """
    if not isinstance(config, OfmuConfig):
        return config
    if config.rho == 0:
        config = dataclasses.replace(
            config,
            rho_growth=1.0,
            rho_control="schedule",
            penalty="gradient_norm",
            penalty_gradient="exact",
            penalty_clip=None,
        )
    if config.beta == 0:
        config = dataclasses.replace(
            config, similarity="cosine", retain_direction="fresh"
        )
    return config


def changes(base: Any, config: Any) -> dict[str, Any]:
    """Fields of ``config`` that differ from ``base``; ``loss.x`` is x of its loss."""
    old, new = (_flat(dataclasses.asdict(c)) for c in (base, config))
    return {name: value for name, value in new.items() if old.get(name) != value}


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        path = f"{prefix}{name}"
        flat |= _flat(value, f"{path}.") if isinstance(value, dict) else {path: value}
    return flat


def make_key(method: str, base: Any, config: Any) -> str:
    """A name for folders and tables, such as ``ofmu-beta-0.0``."""
    found = changes(base, config)
    if len(found) > 3:
        return f"{method}-{fingerprint(found)[:10]}"
    return "-".join([method, *(f"{k}-{v}" for k, v in found.items())])


def variants(run: LanguageRun, options: AblationOptions) -> list[Variant]:
    """All variants of the chosen groups, in their order.

    The run's own configuration is one of every group, with the method's name as its
    key; within a group no two are the same, and equal ones of two groups share a key.
    """
    first: dict[str, Variant] = {}  # of its kind
    for method in (OFMU, "grad_diff", "npo"):
        config = run.config_of(method)
        first[_identity(method, config)] = Variant("", "", method, config, method)
    found: dict[tuple[str, str, str], Variant] = {}
    for group in options.groups:
        for variant in _group(run, options, group):
            identity = _identity(variant.method, variant.config)
            same = first.setdefault(identity, variant)
            variant = dataclasses.replace(variant, key=same.key, config=same.config)
            found.setdefault((group, variant.series, variant.key), variant)
    return list(found.values())


def _identity(method: str, config: Any) -> str:
    return fingerprint(method, canonical(config))


def _group(run: LanguageRun, options: AblationOptions, group: str) -> Iterable[Variant]:
    base = run.ofmu
    if group == "difficulty":
        return ()  # requests of their own: `experiments.ablation.runs`
    if group == "weighting":
        return _weighting(run, options.multiples)
    if group == "beta":
        pairs = [*SIMILARITIES, (base.beta, base.similarity)]
        return [
            _ofmu(run, group, _similarity(b, s), beta=b, similarity=s) for b, s in pairs
        ]
    if group == "paper":
        whole = dataclasses.asdict(paper_setting(base))
        return [
            _ofmu(run, group, "as configured"),
            _ofmu(run, group, "paper's literal setting", **whole),
        ]
    if group == "inner_optimizer":
        return _inner_optimizers(run)
    own = {"rho": options.rhos, "penalty_gradient": PENALTY_GRADIENTS_OF[base.penalty]}
    values: Sequence[Any] = own.get(group) or CHOICES[group]
    values = list(dict.fromkeys([*values, getattr(base, group)]))
    if not isinstance(values[0], str):
        values.sort()
    symbol = SYMBOLS.get(group, group.replace("_", " "))
    found = [
        _ofmu(run, group, _label(symbol, value), **{group: value}) for value in values
    ]
    if group == "forget_loss" and base.inner_optimizer == "polyak":
        # Steps towards a maximum and the gap to it need one; cross-entropy has none.
        gap = base.penalty == "value_gap"
        norm = {"penalty": "gradient_norm", "penalty_gradient": "secant"}
        found[values.index("cross_entropy")] = _ofmu(
            run,
            group,
            "forget loss: cross entropy (normalized steps)",
            forget_loss="cross_entropy",
            inner_optimizer="normalized",
            inner_learning_rate=inner_rate(base, "normalized"),
            **(norm if gap else {}),
        )
    return found


def _inner_optimizers(run: LanguageRun) -> list[Variant]:
    """Each with a rate of its own kind: a step, a hundredth of it for adam as well, or
    the fraction of polyak."""
    rates = [(name, inner_rate(run.ofmu, name)) for name in get_args(InnerOptimizer)]
    rates.append(("adam", inner_rate(run.ofmu, "adam") / 100))
    found = []
    for name, rate in rates:
        label = f"inner optimizer: {name}"
        if rate != run.ofmu.inner_learning_rate:
            label = f"{name}, η_in = {rate:g}"
        fields = {"inner_optimizer": name, "inner_learning_rate": rate}
        found.append(_ofmu(run, "inner_optimizer", label, **fields))
    return found


def _similarity(beta: float, similarity: str) -> str:
    return f"β = {beta:g}, {similarity.replace('_', ' ')}" if beta else "β = 0"


def _label(symbol: str, value: Any) -> str:
    if isinstance(value, str):
        return f"{symbol}: {value.replace('_', ' ')}"
    return f"{symbol} = {value:.6g}"


def _ofmu(
    run: LanguageRun, group: str, label: str, series: str = "", **fields: Any
) -> Variant:
    config = dataclasses.replace(run.ofmu, **fields)
    key = make_key(OFMU, run.ofmu, config)
    return Variant(group, label, OFMU, config, key, series)


def _weighting(run: LanguageRun, multiples: Sequence[float]) -> list[Variant]:
    """The retain weight of two linear methods, and two of OFMU's, over one span."""
    found = []
    for method in ("grad_diff", "npo"):
        base = run.config_of(method)
        for alpha in _times(base.loss.alpha, multiples):
            loss = dataclasses.replace(base.loss, alpha=alpha)
            config = dataclasses.replace(base, loss=loss)
            key, label = make_key(method, base, config), f"{method}, α = {alpha:.6g}"
            found.append(
                Variant("weighting", label, method, config, key, f"{method} α")
            )
    for field in ("rho", "inner_learning_rate"):
        start = getattr(run.ofmu, field) or getattr(OfmuConfig(), field)
        series = f"{OFMU} {SYMBOLS[field]}"
        for value in _times(start, multiples):
            label = f"{OFMU}, {SYMBOLS[field]} = {value:.6g}"
            found.append(_ofmu(run, "weighting", label, series, **{field: value}))
    return found


def _times(start: float, multiples: Sequence[float]) -> list[float]:
    return [float(f"{start * multiple:.12g}") for multiple in multiples]
