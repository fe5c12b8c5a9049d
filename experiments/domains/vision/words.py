"""What the report says of every vision run: its goals, units and tuning."""

import pathlib

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


def asked(forget: str) -> str:
    """What ``--forget`` names, for a title.

    >>> asked("class:3"), asked("subclass:cat"), asked("random:0.1")
    ('class 3', 'class cat', '10 % of the images')
    >>> asked("file:lists/out.txt")
    'the images in out.txt'
    """
    kind, _, value = forget.partition(":")
    if kind == "random":
        return f"{100 * float(value):g} % of the images"
    return (
        f"the images in {pathlib.Path(value).name}"
        if kind == "file"
        else f"class {value}"
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
