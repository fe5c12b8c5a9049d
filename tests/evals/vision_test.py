"""Vision metrics against values by hand and against scikit-learn and scipy."""

import numpy as np
import pytest
from scipy import stats
from scipy.spatial import distance
from sklearn.svm import SVC

from ofmu_jax.data.vision.images import Labelled
from ofmu_jax.evals.language.scores import EvaluationError
from ofmu_jax.evals.vision import attacks
from ofmu_jax.evals.vision import metrics as vision

P = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.2, 0.5, 0.3]])
LABELS = np.array([0, 1, 2])


def random_rows(count: int, seed: int):
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.ones(3), count), rng.integers(0, 3, count)


def test_probabilities_are_softmax_in_batches_of_one_shape():
    images = np.arange(5, dtype=np.uint8).reshape(5, 1, 1, 1)
    sizes = []

    def predict(x):
        sizes.append(len(x))
        return np.stack([x.ravel() * 1.0, np.zeros(len(x))], 1)

    found = vision.probabilities(predict, images, 2)
    np.testing.assert_allclose(found[:, 0], 1 / (1 + np.exp(-np.arange(5.0))))
    assert sizes == [2, 2, 2]
    with pytest.raises(EvaluationError, match="image 3 are not finite"):
        vision.probabilities(
            lambda x: np.where(x.reshape(-1, 1) == 3, np.nan, [[0.0, 1.0]]), images, 5
        )
    with pytest.raises(EvaluationError, match="no images"):
        vision.probabilities(predict, images[:0], 2)


def test_accuracies_and_their_intervals():
    assert vision.accuracy(P, LABELS) == pytest.approx(2 / 3)
    low, high = vision.accuracy_interval(P, LABELS)
    z, n, p = stats.norm.ppf(0.975), 3, 2 / 3  # Wilson's formula
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    assert (low, high) == pytest.approx((middle - half, middle + half))


def test_divergence_is_scipys_and_pads_missing_classes():
    p, q = random_rows(6, 0)[0], random_rows(6, 1)[0]
    expected = distance.jensenshannon(p, q, base=2, axis=1) ** 2
    np.testing.assert_allclose(vision.jensen_shannon(p, q), expected)
    more = np.hstack([q, np.zeros((6, 1))])
    np.testing.assert_allclose(vision.jensen_shannon(p, more), expected)
    assert vision.zero_retrain_forgetting(p, q) == pytest.approx(1 - expected.mean())
    assert vision.zero_retrain_forgetting(p, p) == 1


def test_attack_features_by_hand():
    right = [0.7, 0.6, 0.3]
    features = {k: f(P.copy(), LABELS) for k, f in attacks.FEATURES.items()}
    np.testing.assert_allclose(features["correctness"].ravel(), [1, 1, 0])
    np.testing.assert_allclose(features["confidence"].ravel(), right)
    np.testing.assert_allclose(
        features["entropy"].ravel(), [stats.entropy(row) for row in P]
    )
    first = -(0.3 * np.log(0.7) + 0.2 * np.log(0.8) + 0.1 * np.log(0.9))
    last = -(0.7 * np.log(0.3) + 0.2 * np.log(0.8) + 0.5 * np.log(0.5))
    found = features["modified_entropy"].ravel()
    np.testing.assert_allclose(found[[0, 2]], [first, last])
    np.testing.assert_allclose(features["probability"], P)


@pytest.mark.parametrize("feature", ["confidence", "modified_entropy", "probability"])
def test_attack_is_the_published_support_vector_machine(feature):
    members, others = random_rows(30, 2), random_rows(20, 3)
    forget = random_rows(15, 4)
    function = attacks.FEATURES[feature]
    x = np.vstack(
        [function(members[0][:20], members[1][:20]), function(others[0], others[1])]
    )
    gamma = 1 / x.shape[1]  # what "auto" means
    machine = SVC(C=3, gamma=gamma, kernel="rbf").fit(x, [1] * 20 + [0] * 20)
    expected = 1 - machine.predict(function(*forget)).mean()
    found = attacks.mia_efficacy(
        feature, members=members, non_members=others, forget=forget
    )
    assert found == pytest.approx(expected)


def test_attack_recognises_what_is_plain():
    sure = np.tile([0.98, 0.01, 0.01], (20, 1))
    unsure = np.tile([0.34, 0.33, 0.33], (20, 1))
    labels = np.zeros(20, int)
    attack = lambda forget, most=None: attacks.mia_efficacy(
        "confidence",
        members=(sure, labels),
        non_members=(unsure, labels),
        forget=(forget, labels),
        most=most,
    )
    assert attack(sure) == 0
    assert attack(unsure) == 1
    assert attack(np.vstack([sure[:15], unsure[:5]]), most=10) == 0.25


def test_attacks_that_cannot_be_are_refused():
    rows = random_rows(4, 0)
    empty = (rows[0][:0], rows[1][:0])
    options = {"members": rows, "non_members": rows}
    with pytest.raises(EvaluationError, match="'loss' is unknown"):
        attacks.mia_efficacy("loss", forget=rows, **options)
    with pytest.raises(EvaluationError, match="one set is empty"):
        attacks.mia_efficacy("entropy", forget=empty, **options)


def test_everything_of_a_model_and_its_gap_to_the_retrained_one():
    sets = [random_rows(n, seed) for seed, n in enumerate((12, 30, 20))]
    model = vision.Predictions(*(p for p, _ in sets), *(y for _, y in sets))
    untrained = random_rows(12, 9)[0]
    metrics, intervals = vision.evaluate_vision(model, untrained_forget=untrained)
    assert "average_gap" not in metrics
    assert metrics["unlearning_accuracy"] == 1 - metrics["forget_accuracy"]
    assert metrics["test_accuracy"] == vision.accuracy(*sets[2])
    low, high = intervals["unlearning_accuracy"]
    assert low <= metrics["unlearning_accuracy"] <= high
    again, _ = vision.evaluate_vision(
        model,
        untrained_forget=untrained,
        reference=metrics,
        reference_forget=model.forget,
    )
    assert again["average_gap"] == 0 and again["forget_js_divergence"] == 0
    other = metrics | {"retain_accuracy": metrics["retain_accuracy"] - 0.2}
    other["mia_confidence"] += 0.1
    assert vision.average_gap(metrics, other) == pytest.approx(0.3 / 4)


def test_predictions_keep_sets_apart():
    part = lambda n, y: Labelled(np.full((n, 1, 1, 1), y, np.uint8), np.full(n, y))
    predict = lambda x: np.eye(3)[x.ravel()] * 50.0
    found = vision.predictions(predict, part(2, 0), part(3, 1), part(1, 2), 4)
    for p, y, n in (
        (found.forget, 0, 2),
        (found.retain, 1, 3),
        (found.test, 2, 1),
    ):
        assert p.argmax(1).tolist() == [y] * n
