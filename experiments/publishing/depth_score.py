"""The 150 tuned models of the unlearning depth score, beside a published file of ours.

    python -m experiments.publishing.depth_score METHOD_RESULTS [PUBLISHED]

METHOD_RESULTS is ``docs/data/method_results.json`` of gnueaj/unlearning-depth-score
(arXiv 2605.24614): Llama-3.2-1B-Instruct on TOFU forget10, eight methods in 18 to 24
settings each. Every aggregate is computed here from the raw metrics, and the best
setting of a method is the one with the greatest Overall. PUBLISHED, a file of
`experiments.publish`, adds what both have: extraction strength, exact memorisation and
the share of the target's model utility.
"""

import dataclasses
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import tyro

from experiments.report import glossary, published
from experiments.report.summary import cell, mean, number
from experiments.report.tables import markdown
from ofmu_jax.evals.language import aggregates
from ofmu_jax.evals.language.metrics import UTILITY_TERMS, model_utility

LABELS = {
    "retain": "Retrained (goal)",
    "altpo": "AltPO",
    "graddiff": "GradDiff",
    "idkdpo": "IdkDPO",
    "idknll": "IdkNLL",
    "npo": "NPO",
    "rmu": "RMU",
    "simnpo": "SimNPO",
    "undial": "UNDIAL",
}
HEADS = ("Method", "Overall ↑", "Mem ↑", "Priv ↑", "Util ↑")
COMMON = ("extraction", "exact memor.", "model utility, of the target's")
LEAKS = glossary.LEAKS[1:]  # what both have of them

Row = Mapping[str, Any]


def utility_of(model: Row) -> float:
    """Model utility from its nine terms."""
    return model_utility({name: model[_theirs(name)] for name in UTILITY_TERMS})


def _theirs(term: str) -> str:
    """Their name of a term of model utility.

    >>> _theirs("ra_Q_A_Prob_normalised"), _theirs("retain_Truth_Ratio")
    ('ra_q_prob', 'retain_truth_ratio')
    """
    return term.replace("_normalised", "").replace("Q_A", "q").lower()


def scores(model: Row, full_utility: Mapping[str, float]) -> dict[str, float]:
    """Every aggregate of one model, under their names, from its raw metrics.

    Args:
      model: an entry of ``models``.
      full_utility: epochs -> utility of the model before unlearning.
    """
    utility = aggregates.fluent_utility(
        model_utility=utility_of(model), fluency=model["fluency"]
    )
    found = {
        "mem": aggregates.memorization_score(
            extraction_strength=1 - model["one_minus_es"],
            exact_memorization=1 - model["one_minus_em"],
            paraphrase_probability=1 - model["one_minus_paraprob"],
            truth_ratio_prob_mean=1 - model["one_minus_truth"],
        ),
        "privacy_mia": aggregates.attack_similarity(
            loss=model["s_loss"],
            zlib=model["s_zlib"],
            min_k=model["s_mink"],
            min_k_pp=model["s_minkpp"],
        ),
        "model_utility": utility_of(model),
        "utility": utility,
        "utility_rel": aggregates.relative_utility(
            utility, full_utility[model["epoch"]]
        ),
    }
    found["privacy"] = aggregates.privacy_score(
        attacks=found["privacy_mia"], depth=model["uds"]
    )
    found["overall"] = aggregates.overall_score(
        memorization=found["mem"],
        privacy=found["privacy"],
        utility=found["utility_rel"],
    )
    return found


def best(content: Row) -> list[Row]:
    """The retrained model, then each method's best by Overall, the best first.

    Where all of a method's are 0, the one with the greatest Mem.

    Returns:
      Their entries, with every aggregate replaced by ours.
    """
    target = content["full_utility"]
    models = [model | scores(model, target) for model in content["models"]]
    reference = [model for model in models if model["method"] == "retain"]
    methods: dict[str, Row] = {}
    for model in models:
        other = methods.get(model["method"])
        if not model["is_reference"] and (other is None or _key(model) > _key(other)):
            methods[model["method"]] = model
    ranked = sorted(methods.values(), key=lambda model: -model["overall"])
    return [*reference, *ranked]


def _key(model: Row) -> tuple[float, float]:
    return model["overall"], model["mem"]


def theirs(content: Row) -> str:
    """Their table, in Markdown."""
    (full,) = (m for m in content["models"] if m["method"] == "full")
    before = utility_of(full)
    rows = [
        [
            LABELS[model["method"]],
            *(number(model[k]) for k in ("overall", "mem", "privacy", "utility_rel")),
            *(number(1 - model[k]) for k in ("one_minus_es", "one_minus_em")),
            f"{model['model_utility'] / before:.0%}",
            "—" if model["is_reference"] else _setting(model),
        ]
        for model in best(content)
    ]
    return markdown([[*HEADS, *COMMON, "setting"], *rows])


def _setting(model: Row) -> str:
    """``altpo_lr5e5_b01_a2_ep10`` without the method."""
    return f"`{model['model'].partition('_')[2]}`"


def ours(summary: Sequence[Row]) -> str:
    """What a published file has of the same, in Markdown; least extraction first."""
    (target,) = (row for row in summary if row["role"] == "target")
    before = mean(target["metrics"]["model_utility"])
    assert before  # a target of utility 0 compares with nothing
    unlearned = [row for row in summary if row["role"] == "unlearned"]
    unlearned.sort(key=lambda row: row["metrics"][LEAKS[0]]["mean"])
    goals: Iterable[Row] = (row for row in summary if row["role"] != "unlearned")
    rows = [
        [
            glossary.method_label(row),
            *(cell(row["metrics"][name]) for name in LEAKS),
            f"{(mean(row['metrics']['model_utility']) or 0) / before:.0%}",
        ]
        for row in (*goals, *unlearned)
    ]
    return markdown([["Method", *COMMON], *rows])


@dataclasses.dataclass(frozen=True)
class Options:
    """The best of 150 tuned models of others, beside a published file of ours."""

    # method_results.json of gnueaj/unlearning-depth-score.
    method_results: tyro.conf.Positional[pathlib.Path]
    # File of results, such as experiments/results/NAME.json.
    published: Annotated[
        pathlib.Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="[PUBLISHED]")
    ] = None


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = tyro.cli(
        Options, prog="python -m experiments.publishing.depth_score", args=arguments
    )
    print(theirs(json.loads(options.method_results.read_text(encoding="utf-8"))))
    if options.published is not None:
        result = published.load(options.published, published.RUN)
        print(ours(result["summary"]))
    return 0


if __name__ == "__main__":
    main()
