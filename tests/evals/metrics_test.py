"""Metrics, attacks and intervals against values worked out by hand."""

import math
import zlib

import numpy as np
import pytest
from scipy import stats

from ofmu_jax.evals import intervals
from ofmu_jax.evals.language import metrics, privacy
from ofmu_jax.evals.language.scores import EvaluationError, TokenScores


def make_scores(log_prob=None, correct=None, mean=None, variance=None):
    n = len(log_prob if log_prob is not None else correct)
    fill = lambda values, default: np.asarray(
        np.full(n, default) if values is None else values
    )
    return TokenScores(
        fill(log_prob, -1.0).astype(np.float32),
        fill(correct, True).astype(bool),
        fill(mean, 0.0).astype(np.float32),
        fill(variance, 1.0).astype(np.float32),
    )


def test_option_normalisation():
    correct = -np.log([0.5, 0.2])
    wrong = [-np.log([0.25, 0.125, 0.125]), -np.log([0.8])]
    found = metrics.probability_w_options(correct, wrong)
    np.testing.assert_allclose(found, [0.5, 0.2], rtol=1e-9)
    # All options impossible: 1e-10 keeps it 0, not NaN.
    dead = metrics.probability_w_options([1000.0], [[1000.0]])
    assert dead.tolist() == [0.0]


def test_truth_ratio_variants_by_hand():
    correct, wrong = -np.log([0.5]), [-np.log([0.1, 0.4])]  # geometric mean 0.2
    ratio = lambda variant: metrics.truth_ratio(correct, wrong, variant)[0]
    assert ratio("geometric") == pytest.approx(0.4)
    assert ratio("legacy_reciprocal") == pytest.approx(2.5)
    assert ratio("arithmetic") == pytest.approx(0.5)
    assert ratio("prob_mean") == pytest.approx(0.5 / 0.7)
    with pytest.raises(ValueError, match="unknown truth ratio variant 'other'"):
        ratio("other")


def test_truth_ratio_takes_rows_of_different_length():
    found = metrics.truth_ratio([1.0, 1.0], [[1.0], [1.0, 3.0]])
    np.testing.assert_allclose(found, [1.0, math.exp(-1)], rtol=1e-8)
    with pytest.raises(ValueError, match="row 1 needs a list of at least one"):
        metrics.truth_ratio([1.0, 1.0], [[1.0], []])
    with pytest.raises(ValueError, match="do not match"):
        metrics.truth_ratio([1.0], [[1.0], [2.0]])


def test_aggregators_agree_between_ratio_and_reciprocal():
    ratios = np.array([0.25, 1.0, 4.0])
    folded = metrics.closer_to_1_better(ratios)
    np.testing.assert_allclose(folded, [0.25, 1.0, 0.25], rtol=1e-9)
    kept = metrics.true_better(ratios)
    np.testing.assert_allclose(kept, [0.75, 0.0, 0.0])
    legacy = "legacy_reciprocal"
    np.testing.assert_allclose(
        metrics.closer_to_1_better(1 / ratios, legacy), folded, rtol=1e-9
    )
    np.testing.assert_allclose(metrics.true_better(1 / ratios, legacy), kept)
    with pytest.raises(ValueError, match="average 'prob_mean' values directly"):
        metrics.true_better(ratios, "prob_mean")


def test_truth_ratio_of_a_destroyed_model():
    found = metrics.truth_ratio([900.0], [[900.0, 2000.0]])
    assert metrics.closer_to_1_better(found).tolist() == [0.0]
    legacy = metrics.truth_ratio([900.0], [[9000.0]], "legacy_reciprocal")
    assert np.isfinite(legacy).all()
    assert metrics.closer_to_1_better(legacy, "legacy_reciprocal")[0] < 1e-300


@pytest.mark.parametrize(
    ("generation", "reference", "recall"),
    [
        ("the cat sat", "the cat sat", 1.0),
        ("cats running", "The cat runs fast", 0.5),  # stemmed: cat, run
        ("sat cat the", "the cat sat", 1 / 3),  # order matters
        ("", "the cat", 0.0),
    ],
)
def test_rouge_l_recall(generation, reference, recall):
    found = metrics.rouge_l_recall([generation], [reference])
    assert found[0] == pytest.approx(recall)


def test_rouge_refuses_unequal_lists():
    with pytest.raises(ValueError, match="1 generated texts for 2 references"):
        metrics.rouge_l_recall(["a"], ["a", "b"])


@pytest.mark.parametrize(
    ("correct", "strength", "compat", "exact"),
    [  # the last entry is the end of sequence, which never counts
        ([1, 1, 1, 1, 0], 1.0, 1.0, 1.0),
        ([0, 1, 1, 1, 0], 0.75, 0.75, 0.75),
        ([1, 1, 0, 1, 1], 0.25, 0.25, 0.75),
        ([1, 1, 1, 0, 1], 0.0, 0.25, 0.75),  # compat cannot tell this from above
        ([0, 0, 0, 0, 1], 0.0, 0.25, 0.0),
    ],
)
def test_memorization(correct, strength, compat, exact):
    scores = make_scores(correct=correct)
    assert metrics.extraction_strength(scores) == strength
    assert metrics.extraction_strength(scores, floor="compat") == compat
    assert metrics.exact_memorization(scores) == exact


def test_extraction_strength_against_the_definition():
    rng = np.random.default_rng(0)
    for _ in range(200):
        n = int(rng.integers(1, 9))
        correct = rng.random(n) < 0.6
        for k in range(n):  # the loop of open-unlearning, quirk included
            if correct[k:].all():
                break
        scores = make_scores(correct=[*correct, True])
        assert metrics.extraction_strength(scores, floor="compat") == 1 - k / n


def test_memorization_refuses_a_bare_end_of_sequence():
    bare = make_scores(correct=[1])
    for metric in (metrics.extraction_strength, metrics.exact_memorization):
        with pytest.raises(EvaluationError, match="no token besides the end"):
            metric(bare)
    with pytest.raises(ValueError, match="floor must be"):
        metrics.extraction_strength(make_scores(correct=[1, 1]), floor="none")


def test_model_utility():
    terms = dict.fromkeys(metrics.UTILITY_TERMS, 0.5)
    assert metrics.model_utility(terms) == pytest.approx(0.5)
    terms["wf_Q_A_ROUGE"] = 0.25  # 9 / (8 · 2 + 4)
    assert metrics.model_utility(terms) == pytest.approx(9 / 20)
    assert metrics.model_utility({**terms, "ra_Truth_Ratio": 0.0}) == 0.0
    with pytest.raises(EvaluationError, match="wf_Q_A_ROUGE is nan"):
        metrics.model_utility({**terms, "wf_Q_A_ROUGE": math.nan})
    del terms["ra_Q_A_ROUGE"]
    with pytest.raises(EvaluationError, match="nine terms, ra_Q_A_ROUGE missing"):
        metrics.model_utility(terms)


def test_loss_and_zlib_attack():
    scores = make_scores(log_prob=[-1.0, -2.0, -6.0])  # end of sequence counts
    assert privacy.loss_score(scores) == pytest.approx(3.0)
    text = "Zoë lives in Zoë, Zoë and Zoë."
    expected = 3.0 / len(zlib.compress(text.encode()))
    assert privacy.zlib_score(scores, text) == pytest.approx(expected)


def test_min_k_by_hand():
    # Five tokens and the end of sequence (-99): the lowest ⌊0.4·5⌋ = 2 count.
    scores = make_scores(log_prob=[-1.0, -5.0, -2.0, -3.0, -0.5, -99.0])
    assert privacy.min_k_score(scores) == pytest.approx(4.0)
    assert privacy.min_k_score(scores, k=0.1) == pytest.approx(5.0)  # at least one
    assert privacy.min_k_score(scores, k=1.0) == pytest.approx(11.5 / 5)
    with pytest.raises(ValueError, match=r"k must be a share in \(0, 1\], got 0"):
        privacy.min_k_score(scores, k=0)
    with pytest.raises(EvaluationError, match="no token besides the end"):
        privacy.min_k_score(make_scores(log_prob=[-1.0]))


def test_min_k_plus_plus_by_hand():
    scores = make_scores(
        log_prob=[-3.0, -2.0, -1.0, -1.0, -1.0, -99.0],
        mean=[-1.0, -1.0, -1.0, -2.0, -1.001, 0.0],
        variance=[4.0, 0.25, 1.0, 1.0, 0.0, 1.0],  # 0 is raised to 1e-6
    )
    # z = -1, -2, 0, 1, 1; the lowest two are -2 and -1.
    assert privacy.min_k_plus_plus_score(scores) == pytest.approx(1.5)
    best = privacy.min_k_plus_plus_score(scores, k=1.0)
    assert best == pytest.approx(1 / 5, abs=1e-4)


def test_auc_direction_and_ties():
    assert privacy.auc([1.0, 2.0], [3.0, 4.0]) == 1.0  # forget has the lower loss
    assert privacy.auc([3.0, 4.0], [1.0, 2.0]) == 0.0
    assert privacy.auc([1.0, 3.0], [2.0, 3.0]) == pytest.approx(2.5 / 4)
    with pytest.raises(EvaluationError, match="hold-out scores must be a non-empty"):
        privacy.auc([1.0], [])


def test_privleak():
    assert privacy.privleak(0.5) == pytest.approx(0.0)
    assert privacy.privleak(0.75) == pytest.approx(-50.0)
    assert privacy.privleak(0.25, 0.5) == pytest.approx(50.0)
    assert privacy.privleak(0.4, 0.4) == pytest.approx(0.0)
    with pytest.raises(ValueError, match="auc_model must be an AUC"):
        privacy.privleak(1.5)


@pytest.mark.parametrize(
    ("n", "floor"),
    [(40, 1.86e-23), (200, 1.94e-119), (300, 1.48e-179), (400, 1.06e-239)],
)
def test_ks_floor(n, floor):
    # Complete separation, D = 1: 2 / C(2n, n).
    test = privacy.forget_quality(np.arange(n), np.arange(n) + n)
    assert test.statistic == 1.0
    assert test.p_value == pytest.approx(floor, rel=5e-3)
    assert (test.num_model, test.num_reference) == (n, n)


def test_ks_grid_at_forty_rows():
    grid = [0.9900, 0.9188, 0.7659, 0.5786, 0.4046, 0.2657, 0.1650, 0.0971, 0.0541]
    grid += [0.0286, 0.0143, 0.0068, 0.0030, 0.00127, 5.0e-4, 1.88e-4]
    for k, expected in enumerate(grid, 4):  # D = k/40
        base = np.arange(40.0)
        test = privacy.forget_quality(base, base + k - 0.5)
        assert test.statistic == pytest.approx(k / 40)
        assert test.p_value == pytest.approx(expected, rel=2e-2)


def test_ks_ignores_order_and_reciprocal_and_refuses_nan():
    rng = np.random.default_rng(0)
    a, b = rng.gamma(2.0, size=30), rng.gamma(3.0, size=50)
    base = privacy.forget_quality(a, b)
    assert privacy.forget_quality(a[::-1], b)[:2] == base[:2]
    assert privacy.forget_quality(1 / a, 1 / b)[:2] == pytest.approx(base[:2])
    assert base[2:] == (30, 50)
    with pytest.raises(EvaluationError, match="model's truth ratios hold NaN at row 1"):
        privacy.forget_quality([1.0, math.nan], b)


def test_bootstrap_mean():
    values = np.random.default_rng(0).normal(2.0, 1.0, size=400)
    for method in ("bca", "percentile"):
        found = intervals.bootstrap_mean(values, method=method)
        # Close to the normal interval, mean ± 1.96 · std / √n.
        half = 1.96 * values.std(ddof=1) / 20
        assert found.low == pytest.approx(values.mean() - half, abs=0.02)
        assert found.high == pytest.approx(values.mean() + half, abs=0.02)
        assert found == intervals.bootstrap_mean(values, method=method)
    assert found != intervals.bootstrap_mean(values, method=method, seed=1)
    assert intervals.bootstrap_mean([3.0]) is None
    assert intervals.bootstrap_mean([3.0, 3.0]) == (3.0, 3.0)
    narrow = intervals.bootstrap_mean([1.0] * 399 + [0.0])  # BCa at its limit
    assert all(math.isfinite(end) for end in narrow)
    with pytest.raises(ValueError, match="values is nan at row 1"):
        intervals.bootstrap_mean([1.0, math.nan])
    with pytest.raises(ValueError, match="values must be a non-empty list"):
        intervals.bootstrap_mean([])
    with pytest.raises(ValueError, match="method must be 'bca' or 'percentile'"):
        intervals.bootstrap_mean(values, method="normal")


def test_pairing_tightens_the_interval():
    rng = np.random.default_rng(0)
    questions = rng.normal(0, 1, size=100)
    a, b = questions + rng.normal(0.1, 0.01, size=100), questions
    paired = intervals.paired_bootstrap(a, b)
    assert paired.low > 0.09 and paired.high < 0.11
    single = intervals.bootstrap_mean(a)
    assert single.high - single.low > 20 * (paired.high - paired.low)
    with pytest.raises(ValueError, match="pairing needs equal rows, got 100 and 1"):
        intervals.paired_bootstrap(a, [1.0])


def test_bootstrap_auc_brackets_the_auc():
    rng = np.random.default_rng(0)
    forget, holdout = rng.normal(0, 1, 200), rng.normal(1, 1, 200)
    low, high = intervals.bootstrap_auc(forget, holdout)
    value = privacy.auc(forget, holdout)
    assert low < value < high and high - low < 0.12
    assert intervals.bootstrap_auc([1.0, 2.0], [3.0, 4.0]) == (1.0, 1.0)
    assert intervals.bootstrap_auc([1.0], [2.0, 3.0]) is None


def test_seed_summary():
    found = intervals.seed_summary([0.40, 0.44, 0.48])
    half = 4.302652729911275 * 0.04 / math.sqrt(3)  # t(0.975, 2 degrees of freedom)
    assert found.mean == pytest.approx(0.44) and found.std == pytest.approx(0.04)
    assert found.interval == pytest.approx((0.44 - half, 0.44 + half))
    assert intervals.seed_summary([0.4]) == intervals.SeedSummary(0.4, None, None, 1)


def test_bootstrap_utility():
    constant = {"a": [0.5] * 10, "b": [0.25] * 20}
    third = pytest.approx((1 / 3, 1 / 3))
    assert intervals.bootstrap_utility(constant) == third
    rng = np.random.default_rng(0)
    values = rng.random(100)
    # Terms of one set move together: their mean is as uncertain as one of them.
    together = intervals.bootstrap_utility(
        {"a": values, "b": values}, groups={"a": "set", "b": "set"}
    )
    apart = intervals.bootstrap_utility({"a": values, "b": values})
    assert together.high - together.low > 1.2 * (apart.high - apart.low)
    assert intervals.bootstrap_utility({"a": values, "b": [0.0, 0.0]}) == (0.0, 0.0)
    with pytest.raises(ValueError, match="b has 2 rows"):
        intervals.bootstrap_utility(
            {"a": values, "b": [1.0, 1.0]}, groups={"a": "set", "b": "set"}
        )


def test_equivalence_matches_two_t_tests():
    rng = np.random.default_rng(0)
    reference = rng.random(40)
    values = reference + rng.normal(0.01, 0.05, size=40)
    found = intervals.equivalence_test(values, reference, margin=0.05)
    difference = values - reference
    lower = stats.ttest_1samp(difference, -0.05, alternative="greater").pvalue
    upper = stats.ttest_1samp(difference, 0.05, alternative="less").pvalue
    assert found.p_value == pytest.approx(max(lower, upper))
    assert found.equivalent and found.n == 40
    # Equivalent at level α iff the 1 − 2α interval lies inside ±margin.
    ends = stats.ttest_1samp(difference, 0).confidence_interval(0.9)
    assert found.interval == pytest.approx((ends.low, ends.high))
    tight = max(abs(ends.low), abs(ends.high))
    for margin, expected in ((tight * 1.01, True), (tight * 0.99, False)):
        test = intervals.equivalence_test(values, reference, margin=margin)
        assert test.equivalent is expected


def test_equivalence_of_constant_differences_and_few_rows():
    same = intervals.equivalence_test([0.1, 0.2], [0.1, 0.2], margin=0.05)
    assert same.equivalent and same.difference == 0
    apart = intervals.equivalence_test([1.0, 1.0], [0.5, 0.5], margin=0.05)
    assert not apart.equivalent
    # Few noisy rows: nothing is found different, nothing is shown alike either.
    noisy = intervals.equivalence_test([0.1, 0.9], [0.3, 0.6], margin=0.05)
    assert not noisy.equivalent
    with pytest.raises(ValueError, match="at least 2 rows, got 1"):
        intervals.equivalence_test([0.1], [0.1], margin=0.05)
    with pytest.raises(ValueError, match="margin must be above 0, got 0"):
        intervals.equivalence_test([0.1, 0.2], [0.1, 0.2], margin=0)
