"""What kind of answer a text is: a refusal, a ruin, or an attempt.

A model that refuses may still know; one that repeats itself can say nothing more. Both
have a low ROUGE, and neither has shown that it forgot.
"""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from ofmu_jax.evals.language.scores import EvaluationError

KINDS = ("answered", "refused", "broken")
ANSWERED, REFUSED, BROKEN = range(3)
MOST_REPEATED = 0.5  # of the four-grams of a text: above it, it goes round in circles
GRAM = 4  # words

# The speaker, and that which it knows with.
_SPEAKER = (
    r"(?:i|i'm|i've|my (?:\w+ )?(?:knowledge|training|data\w*|resources|programming"
    r"|understanding|capabilities|expertise))"
)
_LACK = (
    r"(?:(?:do|does|did|have|has|had|was|were|am|is|can|could)(?: not|n?'t)|cannot|not"
    r"|never|no|nothing|without|beyond|unable|unaware|unknown|lack(?:s|ing)?|decline"
    r"|limited|missing|stumped|clueless|blank|sorry|apologi[sz]e|regret|afraid"
    r"|at a (?:loss|disadvantage)|in the dark|short with|yet to|need to look)"
)
_PATTERNS = (
    # "I do not know", "I'm at a loss", "My training didn't cover that"
    r"^(?:\w+, |sorry,? |[\w ']+, but |i must \w+, )?"
    rf"{_SPEAKER}\b(?: \w+){{0,3}}? ?{_LACK}\b",
    # "That's not something I'm familiar with", "That hasn't been included in my data"
    rf"^(?:that|this|it|there)\b.*\b{_LACK}\b.*\b(?:i|i'm|i've|my)\b",
    rf"^(?:that|this|it)\b.*\bmy\b.*\b{_LACK}\b",
    # "That's a mystery to me", "That's a blind spot in my knowledge"
    r"^(?:that|this|it)(?:'s| is) .*\b(?:mystery|blind spot|uncharted|out of my scope"
    r"|outside my|out of my)\b",
)
_REFUSAL = re.compile("|".join(f"(?:{x})" for x in _PATTERNS))


def is_refusal(text: str) -> bool:
    """Whether the text says that its speaker does not know, or will not say.

    >>> is_refusal("I'm not sure about that."), is_refusal("She is not sure about it.")
    (True, False)
    """
    plain = " ".join(text.lower().replace("’", "'").split())
    return bool(_REFUSAL.search(plain))


def is_broken(text: str) -> bool:
    """Whether there is no word in the text, or it goes round in circles.

    >>> is_broken("..."), is_broken("the the the the the the"), is_broken("Oslo")
    (True, True, False)
    """
    words = re.findall(r"\w+", text.lower())
    grams = Counter(zip(*(words[i:] for i in range(GRAM)), strict=False))
    repeated = sum(grams.values()) - len(grams)
    return not words or repeated > MOST_REPEATED * max(sum(grams.values()), 1)


def kinds(texts: Sequence[str]) -> np.ndarray:
    """Index into `KINDS` of each text, shape (N,), int8; a ruined refusal is a ruin."""
    found = [
        BROKEN if is_broken(text) else REFUSED if is_refusal(text) else ANSWERED
        for text in texts
    ]
    return np.array(found, np.int8)


def shares(codes: np.ndarray) -> dict[str, float]:
    """How many of the answers are of each kind.

    >>> shares(kinds(["Oslo.", "I do not know."]))
    {'answered': 0.5, 'refused': 0.5, 'broken': 0.0}
    """
    if not np.size(codes):
        raise EvaluationError("there are no answers; ask at least one question")
    return {name: float(np.mean(codes == i)) for i, name in enumerate(KINDS)}
