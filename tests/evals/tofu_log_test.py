"""The published logs of the TOFU authors as golden values."""

import dataclasses
import json
import math

import pytest

from ofmu_jax.evals.evaluation import EvalOptions, fingerprint
from ofmu_jax.evals.language.comparison import compare_with_reference
from ofmu_jax.evals.language.scores import EvaluationError
from ofmu_jax.evals.language.tofu_log import from_tofu_log

# Llama-2-7B of the TOFU authors, 300 rows a set, computed from their published logs.
# Changed on purpose? Then a definition changed: say which in the change log.
RETAIN90_TERMS = {
    "retain_Q_A_Prob": 0.98890,
    "retain_Q_A_ROUGE": 0.97581,
    "retain_Truth_Ratio": 0.47098,
    "ra_Q_A_Prob_normalised": 0.43409,
    "ra_Q_A_ROUGE": 0.92300,
    "ra_Truth_Ratio": 0.57068,
    "wf_Q_A_Prob_normalised": 0.41433,
    "wf_Q_A_ROUGE": 0.89744,
    "wf_Truth_Ratio": 0.54420,
}
UTILITY = {"full": 0.6227, "retain90": 0.6137, "retain95": 0.6006, "retain99": 0.6207}
FAST = EvalOptions(num_resamples=200)


@pytest.fixture(scope="module")
def logs(data_dir):
    folder = data_dir / "tofu_logs"
    if not folder.is_dir():
        pytest.skip(f"the logs of the TOFU authors are not at {folder}")
    names = {name: folder / f"llama2-7b_{name}.json" for name in UTILITY}
    return {name: json.loads(path.read_text()) for name, path in names.items()}


def read(logs, name, **options):
    return from_tofu_log(logs[name], options=dataclasses.replace(FAST, **options))


def test_golden_utility(logs):
    for name, expected in UTILITY.items():
        found = read(logs, name).metrics["model_utility"]
        assert found == pytest.approx(expected, abs=5e-5), name
    found = read(logs, "retain90")
    for name, expected in RETAIN90_TERMS.items():
        assert found.metrics[name] == pytest.approx(expected, abs=5e-6), name
        low, high = found.intervals[name]
        assert low < found.metrics[name] < high
    low, high = found.intervals["model_utility"]
    assert low < 0.6137 < high and high - low < 0.1


def test_golden_truth_ratio(logs):
    full, retain90 = read(logs, "full").metrics, read(logs, "retain90").metrics
    assert full["forget_truth_ratio"] == pytest.approx(0.5160, abs=5e-5)
    assert retain90["forget_truth_ratio"] == pytest.approx(0.67402, abs=5e-6)
    name = "forget_truth_ratio_prob_mean"
    assert retain90[name] == pytest.approx(0.55426, abs=5e-6)
    interval = read(logs, "retain99", num_resamples=2000).intervals
    # 40 rows: a percentile bootstrap gave .625–.740; BCa must be near it.
    assert interval["forget_truth_ratio"] == pytest.approx((0.625, 0.740), abs=0.01)


def test_golden_forget_quality(logs):
    found = compare_with_reference(read(logs, "full"), read(logs, "retain90"))
    assert found.metrics["forget_quality_ks"] == pytest.approx(0.39667, abs=5e-6)
    assert found.metrics["forget_quality"] == pytest.approx(1.834e-21, rel=5e-4)
    assert found.metrics["indistinguishable_from_reference"] == 0.0
    itself = compare_with_reference(read(logs, "full"), read(logs, "full")).metrics
    assert itself["forget_quality"] == 1.0
    assert itself["indistinguishable_from_reference"] == 1.0


def test_golden_variants(logs):
    arithmetic = {"truth_ratio": "arithmetic"}
    full, retain90 = (read(logs, n, **arithmetic) for n in ("full", "retain90"))
    assert full.metrics["model_utility"] == pytest.approx(0.5859, abs=5e-5)
    found = compare_with_reference(full, retain90).metrics["forget_quality"]
    assert found == pytest.approx(6.03e-23, rel=1e-3)
    legacy = read(logs, "full", truth_ratio="legacy_reciprocal")
    geometric = read(logs, "full")
    for name in ("model_utility", "forget_truth_ratio"):
        assert legacy.metrics[name] == pytest.approx(geometric.metrics[name], abs=1e-7)
    with pytest.raises(
        EvaluationError, match="truth_ratio='geometric', the model with"
    ):
        compare_with_reference(legacy, geometric)


def test_other_splits_are_refused(logs):
    for name in ("retain95", "retain99"):
        with pytest.raises(EvaluationError, match="other forget rows"):
            compare_with_reference(read(logs, "full"), read(logs, name))


def test_a_log_has_the_fingerprint_of_an_evaluation_of_its_rows(logs, data_dir):
    lines = (data_dir / "tofu" / "forget01_perturbed.json").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    expected = fingerprint((row["question"], row["answer"]) for row in rows)
    assert read(logs, "retain99").fingerprints["forget"] == expected


def test_a_damaged_value_is_named(logs):
    whole = logs["retain99"]["eval_log.json"]
    for field, value in (
        ("avg_gt_loss", math.nan),
        ("rougeL_recall", "high"),
        ("average_perturb_loss", []),
        ("average_perturb_loss", [1.0, math.inf]),
    ):
        section = {**whole, field: {**whole[field], "7": value}}
        with pytest.raises(EvaluationError, match=f"section .* row 7 of '{field}'"):
            from_tofu_log({"eval_log.json": section})
    with pytest.raises(EvaluationError, match="'avg_gt_loss' is empty"):
        from_tofu_log({"eval_log.json": {**whole, "avg_gt_loss": {}}})


def test_log_without_fields_is_refused(logs):
    with pytest.raises(EvaluationError, match="not a TOFU log"):
        from_tofu_log({"other": {}})
    section = {k: v for k, v in logs["full"]["eval_log.json"].items()}
    del section["average_perturb_loss"]
    with pytest.raises(EvaluationError, match="no field 'average_perturb_loss'"):
        from_tofu_log({"eval_log.json": section})
    section = {**logs["full"]["eval_log.json"], "rougeL_recall": {"0": 1.0}}
    with pytest.raises(EvaluationError, match="'rougeL_recall' has other rows"):
        from_tofu_log({"eval_log.json": section})
    part = from_tofu_log({"eval_log.json": logs["full"]["eval_log.json"]}, options=FAST)
    assert "no section eval_log_forget" in part.missing["forget_truth_ratio"]
    assert "forget_truth_ratio" not in part.metrics
