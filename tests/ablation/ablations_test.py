"""Ablations: the grid, the rules of the claims on numbers made by hand, one run."""

import dataclasses
import json
import math

import numpy as np
import pytest

from experiments.ablation import grid as ablation_grid
from experiments.ablation import report, statistics, verdicts
from experiments.ablation import runs as ablation_runs
from experiments.ablation.execute import run_ablations
from experiments.ablation.grid import GROUPS, AblationOptions, Variant
from experiments.ablations import DemoAblations, TofuAblations, parse
from experiments.config.language import (
    BudgetConfig,
    Demo,
    EvalConfig,
    ModelConfig,
    OfmuConfig,
    Tofu,
    TrainConfig,
)
from experiments.domains.language.domain import LanguageDomain
from ofmu_jax.data.language.fictitious import fictitious_people
from ofmu_jax.methods.language.ofmu import paper_setting

TINY = Demo(
    seeds=(0, 1),
    share_models=True,
    people=4,
    forget_people=1,
    model_size=ModelConfig(32, 64, 1, 2, 1, 2048),
    train=TrainConfig(epochs=2, batch_size=16),
    budget=BudgetConfig(gradient_evaluations=12, batch_size=4, checks=2),
    evaluation=EvalConfig(batch_size=32, max_new_tokens=4, max_rows=4, bootstrap=20),
)
BASES = [
    OfmuConfig(),
    OfmuConfig(beta=0.0),
    OfmuConfig(rho=0.0, inner_steps=3, similarity="squared_cosine"),
    paper_setting(OfmuConfig()),
]


@pytest.mark.parametrize("base", BASES)
def test_no_variant_is_there_twice_and_each_says_what_it_changes(base):
    run = dataclasses.replace(TINY, ofmu=base)
    found = ablation_grid.variants(run, AblationOptions())
    assert {v.group for v in found} == set(GROUPS) - {"difficulty"}
    for group in GROUPS:
        rows = [v for v in found if v.group == group]
        assert len({(v.series, v.label) for v in rows}) == len(rows)
        assert len({(v.series, v.key) for v in rows}) == len(rows)
        if rows and group != "weighting":
            assert [v.key for v in rows].count("ofmu") == 1
    configs = {}
    for v in found:
        changed = ablation_grid.changes(run.config_of(v.method), v.config)
        assert bool(changed) == (v.key != v.method)
        same = configs.setdefault(v.key, v.config)
        assert same == v.config
    kinds = {str(ablation_grid.canonical(c)) for c in configs.values()}
    assert len(kinds) == len(configs)


@pytest.mark.parametrize("group", [g for g in GROUPS if g not in ("paper", "beta")])
def test_a_variant_changes_what_its_group_is_named_after(group):
    options = AblationOptions(groups=(group,), rhos=(0.0, 0.5))
    for v in ablation_grid.variants(TINY, options):
        changed = ablation_grid.changes(TINY.config_of(v.method), v.config)
        if group == "weighting":
            assert len(changed) <= 1
            assert changed.keys() <= {"loss.alpha", "rho", "inner_learning_rate"}
        elif "η_in" in v.label:
            assert changed.keys() == {"inner_optimizer", "inner_learning_rate"}
            assert ("polyak" in v.label) == (v.config.inner_learning_rate == 0.5)
        elif "normalized steps" in v.label:  # cross-entropy has no maximum
            others = {"inner_optimizer", "inner_learning_rate"}
            assert changed.keys() == {group, *others, "penalty", "penalty_gradient"}
        else:
            assert changed.keys() <= {group}


@pytest.mark.parametrize("run", [TINY, Tofu()])
def test_inner_optimizers_have_a_rate_of_their_own_kind(run):
    options = AblationOptions(groups=("inner_optimizer",))
    found = [v.config for v in ablation_grid.variants(run, options)]
    rates = [(c.inner_optimizer, c.inner_learning_rate) for c in found]
    steps = [(name, 0.1) for name in ("sgd", "clipped", "normalized", "adam")]
    assert rates == [*steps, ("polyak", 0.5), ("adam", 0.001)]


def test_an_unbounded_loss_is_ascended_in_steps_of_another_kind():
    found = ablation_grid.variants(Tofu(), AblationOptions(groups=("forget_loss",)))
    kinds = {v.config.forget_loss: v.config.inner_optimizer for v in found}
    bounded = ("target_cross_entropy", "npo", "simnpo")
    assert kinds == {"cross_entropy": "normalized"} | dict.fromkeys(bounded, "polyak")


def test_options_without_effect_make_no_variants():
    no_penalty = dataclasses.replace(TINY, ofmu=OfmuConfig(rho=0.0))
    options = AblationOptions(groups=("rho_growth", "penalty_gradient"))
    assert [v.key for v in ablation_grid.variants(no_penalty, options)] == ["ofmu"] * 2
    no_term = dataclasses.replace(TINY, ofmu=OfmuConfig(beta=0.0))
    options = AblationOptions(groups=("retain_direction",))
    assert [v.key for v in ablation_grid.variants(no_term, options)] == ["ofmu"]


def test_the_grids_of_all_weights_span_the_same_multiples():
    options = AblationOptions(groups=("weighting",), multiples=(0.5, 1.0, 4.0))
    found = ablation_grid.variants(TINY, options)
    values = lambda series, get: [get(v.config) for v in found if v.series == series]
    assert values("npo α", lambda c: c.loss.alpha) == [0.5, 1.0, 4.0]
    assert values("ofmu ρ", lambda c: c.rho) == [0.005, 0.01, 0.04]
    assert values("ofmu η_in", lambda c: c.inner_learning_rate) == [0.25, 0.5, 2.0]


def row(key, seed, forget, retain, cosine=0.0, met=1.0):
    metrics = {"forget_prob": forget, "retain_prob": retain}
    metrics |= {"cosine": cosine, "target_met": met}
    return {"method": key, "seed": seed, "metrics": metrics}


def variant(key, series="", beta=0.1):
    return Variant("beta", key, "ofmu", OfmuConfig(beta=beta), key, series)


def similarity(with_term, without):
    """The claim of runs given as (forget, retain) per seed."""
    rows = [
        row(key, seed, *values)
        for key, runs in (("ofmu", with_term), ("ofmu-beta-0.0", without))
        for seed, values in enumerate(runs)
    ]
    pair = [variant("ofmu-beta-0.0", beta=0.0), variant("ofmu")]
    return verdicts.similarity_claim(pair, rows)


def test_the_similarity_term_is_judged_by_the_paired_difference():
    more = [(0.1, 0.91), (0.12, 0.92), (0.1, 0.89)]
    less = [(0.11, 0.80), (0.11, 0.82), (0.1, 0.79)]
    assert similarity(more, less)["verdict"] == "confirmed"
    assert similarity(less, more)["verdict"] == "refuted"
    mixed = [(0.1, 0.7), (0.12, 0.99), (0.1, 0.89)]
    assert similarity(mixed, less)["verdict"] == "undecided"
    assert similarity(more[:1], less[:1])["verdict"] == "undecided"  # no interval
    part = similarity(more, less)["parts"][0]
    assert part["decides"] and part["n"] == 3
    assert np.isclose(part["mean"], (0.11 + 0.10 + 0.10) / 3)
    # t(0.975, 2) = 4.302653; standard deviation 0.0057735; three seeds
    assert np.isclose(part["mean"] - part["low"], 4.302653 * 0.0057735 / math.sqrt(3))


def test_what_is_kept_by_forgetting_less_confirms_nothing():
    more = [(0.50, 0.91), (0.52, 0.92), (0.51, 0.89)]
    less = [(0.11, 0.80), (0.11, 0.82), (0.10, 0.79)]
    assert similarity(more, less)["verdict"] == "undecided"
    assert similarity(less, more)["verdict"] == "undecided"


def test_a_claim_whose_group_was_not_run_is_not_measured():
    assert verdicts.similarity_claim([], [])["verdict"] == "not measured"
    assert verdicts.weighting_claim({})["verdict"] == "not measured"
    assert verdicts.difficulty_claim({})["verdict"] == "not measured"


def weighting(grids, before=0.9):
    """The spreads of series given as per seed a list of (forget, retain)."""
    variants, rows = [], []
    for series, seeds in grids.items():
        variants += [
            dataclasses.replace(variant(f"{series}{i}"), series=series)
            for i in range(len(seeds[0]))
        ]
        rows += [
            row(f"{series}{i}", seed, *values)
            for seed, grid in enumerate(seeds)
            for i, values in enumerate(grid)
        ]
    start = [{"seed": s, "retain_prob": before} for s in range(len(seeds))]
    return verdicts.spreads(variants, rows, start)


NARROW = [[(0.1, 0.85), (0.12, 0.86)], [(0.1, 0.84), (0.13, 0.86)]]
WIDE = [[(0.0, 0.10), (0.9, 0.90)], [(0.0, 0.11), (0.9, 0.90)]]


def test_spread_is_the_mean_range_and_usable_the_share_that_keeps_enough():
    found = weighting({"ofmu ρ": NARROW, "npo α": WIDE})
    assert np.isclose(found["npo α"]["by_seed"][0], (0.9 + 0.8) / 2)
    assert np.isclose(found["ofmu ρ"]["by_seed"][1], (0.03 + 0.02) / 2)
    assert found["npo α"]["usable"]["values"] == [0.5, 0.5]
    assert found["ofmu ρ"]["usable"]["values"] == [1.0, 1.0]


def test_linear_weighting_is_unstable_only_if_every_linear_method_is():
    verdict = lambda **grids: verdicts.weighting_claim(
        weighting({f"{k.replace('_a', ' α')}": v for k, v in grids.items()})
    )["verdict"]
    both = {"ofmu ρ": NARROW, "grad_diff_a": WIDE}
    assert verdict(**both, npo_a=WIDE) == "confirmed"
    assert verdict(**both, npo_a=NARROW) == "undecided"
    swapped = {"ofmu ρ": WIDE, "grad_diff_a": NARROW, "npo_a": NARROW}
    assert verdict(**swapped) == "refuted"


def test_spearman_and_its_exact_permutation_p():
    found = statistics.correlation([1, 2, 3, 4, 5], [2, 1, 4, 3, 5], 2000)
    assert np.isclose(found["mean"], 1 - 6 * 4 / (5 * 24))
    # Of the 5! = 120 orders 8 have Σd² ≤ 4, and as many the opposite: 16 / 120.
    assert np.isclose(found["p"], 16 / 120)
    assert found["low"] <= found["mean"] <= found["high"]
    rising = statistics.correlation([1, 2, 3, 4, 5], [1, 4, 9, 16, 25], 2000)
    assert rising["mean"] == pytest.approx(1) and np.isclose(rising["p"], 2 / 120)
    assert statistics.correlation([1, 2, 3], [1, 1, 1], 200)["mean"] is None
    assert statistics.correlation([1, 2], [1, 2], 200)["mean"] is None


def points(losses):
    """Points of two seeds with models of their own; method -> loss per group."""
    return [
        {
            "method": method,
            "seed": seed,
            "identity": f"{seed}{group}",
            "nll_before": 1.0 - group / 10,
            "difficulty": group / 10 - 1.0,
            "utility_loss": loss + 0.001 * seed,
        }
        for method, per_group in losses.items()
        for seed in (0, 1)
        for group, loss in enumerate(per_group)
    ]


def judged(**losses):
    found = verdicts.by_method(points(losses), 500)
    return verdicts.difficulty_claim(found)


RISING, FLAT = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [0.3, 0.1, 0.2, 0.2, 0.1, 0.3]


def test_hard_rows_cost_utility_where_loss_rises_with_difficulty():
    assert judged(ofmu=RISING, npo=RISING)["verdict"] == "refuted"
    assert judged(ofmu=RISING[::-1], npo=RISING)["verdict"] == "confirmed"
    # No baseline pays for difficulty, so there is nothing to do away with.
    assert judged(ofmu=FLAT, npo=FLAT)["verdict"] == "undecided"
    gaps = [p for p in judged(ofmu=RISING)["parts"] if "hardest" in p["text"]]
    assert np.isclose(gaps[0]["mean"], 0.5) and gaps[0]["n"] == 2


def test_seeds_that_share_a_model_are_one_point():
    shared = [p | {"identity": p["identity"][1:]} for p in points({"npo": RISING})]
    found = verdicts.difficulty_points(shared, "npo")
    assert len(found) == 6
    assert np.isclose(sorted(y for _, y in found.values())[0], 0.1 + 0.0005)
    assert len(verdicts.difficulty_points(points({"npo": RISING}), "npo")) == 12


def test_groups_hold_every_row_once_from_easy_to_hard():
    nll = [0.5, 0.1, 0.9, 0.3, 0.7]
    groups = ablation_runs.by_difficulty(nll, 2)
    assert [g.tolist() for g in groups] == [[2, 4, 0], [3, 1]]


def test_the_mean_cosine_is_of_the_updates_that_led_to_the_result():
    metrics = [{"update": i, "cosine": float(i)} for i in (1, 2, 3, 4)]
    record = {"metrics": metrics, "update": 3}
    assert ablation_runs.mean_cosine(record) == 2.0
    assert ablation_runs.mean_cosine({"metrics": metrics, "update": 0}) is None
    ascent = {"metrics": [{"update": 1}], "update": 1}
    assert ablation_runs.mean_cosine(ascent) is None


def test_command_line():
    command = parse(["demo", "--groups", "beta", "rho", "--ofmu.beta", "0.2"])
    assert isinstance(command, DemoAblations)
    assert command.ablation.groups == ("beta", "rho")
    assert command.run.ofmu.beta == 0.2 and not command.ablation.evaluate
    command = parse(["tofu", "--evaluate", "--split", "forget01", "--rhos", "0", "1"])
    assert isinstance(command, TofuAblations) and command.ablation.evaluate
    assert command.run.split == "forget01" and command.ablation.rhos == (0.0, 1.0)
    assert parse([]) == DemoAblations()


def test_more_groups_than_rows_are_refused(tmp_path):
    run = dataclasses.replace(TINY, output_dir=tmp_path)
    options = AblationOptions(groups=("difficulty",), difficulty_groups=999)
    with pytest.raises(ValueError, match="--difficulty-groups 999 does not fit 24"):
        run_ablations(run, options)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished tiny run in which one variant costs more than the budget."""
    folder = tmp_path_factory.mktemp("ablations") / "out"
    run = dataclasses.replace(TINY, output_dir=folder)
    options = AblationOptions(
        groups=("outer_steps", "difficulty"),
        evaluate=True,
        difficulty_groups=2,
        resamples=100,
    )
    return run, options, run_ablations(run, options)


@pytest.mark.long
def test_a_run_leaves_its_files_and_names_what_did_not_fit(finished):
    run, _, found = finished
    saved = json.loads((run.output_dir / "ablations.json").read_text())
    assert saved == found and saved["schema_version"] == 1
    labels = {v["label"]: v for v in found["variants"]}
    assert "one update of ofmu takes 14" in labels["outer steps = 4"]["not_run"]
    base = labels["outer steps = 2"]
    assert base["base"] and base["seeds"] == [0, 1] and not base["changes"]
    for name in ("forget_prob", "retain_nll", "cosine", "seconds", "model_utility"):
        assert base["statistics"][name]["n"] == 2
    assert base["statistics"]["gradient_evaluations"]["values"] == [12.0, 12.0]
    assert len(found["difficulty"]["points"]) == 4 * 2 * 2
    assert {c["id"]: c["verdict"] for c in found["claims"]}["a"] == "not measured"
    page = (run.output_dir / "ablations.html").read_text()
    assert "<svg" in page and "not run" in page and "http" not in page.split("<svg")[0]
    assert "outer steps = 1" in str(report.render(found))


@pytest.mark.long
def test_a_run_is_not_repeated(finished):
    run, options, found = finished
    marks = {p: p.stat().st_mtime_ns for p in run.output_dir.rglob("*.stage.json")}
    again = run_ablations(run, options)
    assert again["runs"] == found["runs"]
    assert marks == {
        p: p.stat().st_mtime_ns for p in run.output_dir.rglob("*.stage.json")
    }


def test_the_page_shows_every_group_claim_and_reason():
    """A report of made-up runs of every variant but one."""
    rng = np.random.default_rng(0)
    options = AblationOptions(resamples=50)
    grid = ablation_grid.variants(TINY, options)
    missing = next(v.key for v in grid if v.group == "paper" and v.key != "ofmu")
    rows = [
        row(v.key, seed, *rng.uniform(size=3))
        | {
            "role": "unlearned",
            "seconds": 2.0,
            "compile_seconds": 0.5,
            "gradient_evaluations": 12.0,
            "trajectory": [
                {"step": s, "gradient_evaluations": s, "cosine": math.nan if s else 0.1}
                for s in range(3)
            ],
        }
        for v in {v.key: v for v in grid if v.key != missing}.values()
        for seed in (0, 1)
    ]
    before = [{"seed": s, **dict.fromkeys(ablation_runs.CHECKED, 0.9)} for s in (0, 1)]
    made = points({"ofmu": FLAT, "npo": RISING})
    measured = ablation_runs.Measured(before, rows, {missing: "costs <too> much"}, made)
    domain = LanguageDomain.on(TINY, fictitious_people(0, 4, 1))
    found = report.content(domain, options, grid, measured)
    json.dumps(found, allow_nan=False)
    page = report.render(found)
    assert page.count("<figure") == len(GROUPS) - 1 + 3  # one a group, one a claim
    assert "costs &lt;too&gt; much" in page and "<too>" not in page
    for claim in found["claims"]:
        assert claim["rule"].split(":")[0] in page.replace("&#39;", "'")
    table = report.group_table(found)
    assert table.row_count == len(found["variants"])
    assert report.claims_table(found).row_count == 3
