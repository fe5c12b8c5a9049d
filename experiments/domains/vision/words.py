"""What the report says of every vision run: its goals, units and tuning."""

from experiments.domains.base import REFERENCE, TARGET, Goal

GAP, KEPT = 0.05, 0.05  # shares
GOALS = (
    Goal(
        f"{{name}}'s average gap to the retrained model is at most {GAP}",
        ["average_gap"],
        TARGET,
        lambda ours, theirs: ours <= GAP,
        "{metric}: {ours:.3f}, before unlearning {theirs:.3f}",
    ),
    Goal(
        f"{{name}}'s test accuracy is within {KEPT} of the retrained model's",
        ["test_accuracy"],
        REFERENCE,
        lambda ours, theirs: ours >= theirs - KEPT,
        "{metric}: {ours:.3f}, retrained {theirs:.3f}",
    ),
    Goal(  # where a request has adjacent classes
        f"{{name}}'s adjacent accuracy is within {KEPT} of the retrained model's",
        ["adjacent_accuracy"],
        REFERENCE,
        lambda ours, theirs: ours >= theirs - KEPT,
        "{metric}: {ours:.3f}, retrained {theirs:.3f}",
    ),
)
UNITS = (
    "UA, RA, TA, MIA and the average gap are shares between 0 and 1; published tables "
    "show them times 100. MIA is the attack on the confidence. The "
    "run time is the wall time of the whole method, compilation and weight masks "
    "included, checks of the stopping rule left out."
)
UNTUNED = (
    "Learning rates are not tuned method by method for this run; recipe.method has "
    "each. A method that falls short here may do better at another rate, so this is no "
    "ranking of methods."
)
TUNED = (
    "Every method was tuned with the same number of trials on other images of the same "
    "kind, scored on validation images: no forget and no test image had a part in it."
)
