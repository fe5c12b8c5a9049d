"""Names and goals of metrics."""

from experiments.report import glossary


def test_aliases_stand_for_the_same_metric():
    assert glossary.metric("forget_quality_D").label == "forget quality D"
    present = ["forget_heldout_Prob", "forget_Q_A_Prob"]
    assert glossary.first_present(glossary.FORGET, present) == "forget_heldout_Prob"
    names = ["zebra", "mia_loss_auc", "forget_Q_A_Prob"]
    assert glossary.ordered(names) == ["forget_Q_A_Prob", "mia_loss_auc", "zebra"]


def test_goals_of_the_image_metrics():
    goals = {
        "average_gap": "lower",
        "forget_js_divergence": "lower",
        "run_time_minutes": "lower",
        "mia_confidence_gap": "lower",
        "unlearning_accuracy": "reference",
        "zrf": "reference",
        **{
            f"mia_{name}": "reference"
            for name in (
                "confidence",
                "correctness",
                "entropy",
                "modified_entropy",
                "probability",
            )
        },
    }
    assert {name: glossary.metric(name).goal for name in goals} == goals
    assert glossary.metric("forget_js_divergence").label == "forget JS divergence"
