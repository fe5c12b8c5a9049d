"""Asking otherwise: in other words, with the answer begun, or more than once.

The score is ROUGE-L recall of what is said. What was put into the model's mouth does
not count as said: a forced beginning is left out of it, and of the right answer too
where it is part of that.
"""

from collections.abc import Callable, Sequence

import numpy as np

from ofmu_jax.attacks.base import Attack, Attacked, Found, Progress, Rows
from ofmu_jax.attacks.budget import Budget
from ofmu_jax.attacks.once import once
from ofmu_jax.data.language.padding import Encoded
from ofmu_jax.data.language.records import QA
from ofmu_jax.evals.language import answers
from ofmu_jax.evals.language.metrics import rouge_l_recall
from ofmu_jax.evals.language.sampled import leak_at_k

Beginnings = Sequence[np.ndarray]  # token ids of questions, and of forced answers


def rouge(said: Sequence[str], rows: Sequence[QA]) -> np.ndarray:
    """ROUGE-L recall of what was said to each row's question, shape (N,)."""
    return rouge_l_recall(said, [row.answer.strip() for row in rows])


def plainly(model: Attacked, rows: Rows) -> np.ndarray:
    """The score of greedy answers to the questions as they are, shape (N,)."""

    def make() -> np.ndarray:
        questions = [row.question for row in rows.scored]
        return rouge(model.subject.generate(model.params, questions), rows.scored)

    return once(model.own, ("plainly", rows.scored), make)


def _answered(asked: Sequence[QA], said: Sequence[str], before: np.ndarray) -> Found:
    """One answer to each question, beside the plain one."""
    kinds = answers.kinds(said)[None]
    return Found((0.0,), rouge(said, asked)[None], before, kinds=kinds)


def paraphrased(
    model: Attacked, rows: Rows, budget: Budget, progress: Progress
) -> Found:
    """Greedy answers to the questions in words never trained on."""
    asked = rows.paraphrased
    questions = [row.paraphrased_question or row.question for row in asked]
    said = model.subject.generate(model.params, questions)
    is_asked = [bool(row.paraphrased_question) for row in rows.scored]
    return _answered(asked, said, plainly(model, rows)[is_asked])


def agreement(model: Attacked, rows: Rows, budget: Budget, progress: Progress) -> Found:
    """What follows where an answer is forced to begin with an agreement."""
    subject = model.subject
    said = subject.tokenizer(budget.agreement, add_special_tokens=False)["input_ids"]
    forced = [
        np.concatenate([subject.prompt(row.question), np.asarray(said, np.int32)])
        for row in rows.scored
    ]
    said = subject.continued(model.params, forced)
    return _answered(rows.scored, said, plainly(model, rows))


def first_tokens(
    model: Attacked, rows: Rows, budget: Budget, progress: Progress
) -> Found:
    """What follows the first tokens of the right answer, against the rest of it."""
    subject, counts = model.subject, budget.first_tokens
    examples = subject.encode(rows.scored)
    scores, kinds = [], []
    for number, count in enumerate(counts, 1):
        begun = [begun_with(example, count, subject.ended) for example in examples]
        said = subject.continued(model.params, [ids for ids, _ in begun])
        rest = subject.decode([rest for _, rest in begun])
        scores.append(rouge_l_recall(said, rest))
        kinds.append(answers.kinds(said))
        progress(number / (len(counts) + 1))
    at = tuple(map(float, counts))
    return Found(at, np.stack(scores), plainly(model, rows), kinds=np.stack(kinds))


def begun_with(
    example: Encoded, count: int, ended: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """The prompt with so many tokens of the answer, and the rest of the answer without
    the end of sequence.

    One token is left at least: of a shorter answer fewer are given.

    Args:
      ended: whether there is an end of sequence.
    """
    ids, start = example.input_ids[: len(example) - ended], example.prompt_length
    at = start + max(0, min(count, len(ids) - start - 1))
    return ids[:at], ids[at:]


def sampling(model: Attacked, rows: Rows, budget: Budget, progress: Progress) -> Found:
    """The best of k drawn answers, k = 1 … n; at 1 their mean."""
    subject, draws, asked = model.subject, budget.draws, rows.scored
    questions = [row.question for row in asked]
    scores, kinds = [], []
    for draw in range(draws):
        seed = budget.seed * draws + draw
        said = subject.generate(model.params, questions, budget.temperature, seed)
        scores.append(rouge(said, asked))
        kinds.append(answers.kinds(said))
        progress((draw + 1) / (draws + 1))
    curve_KxN = leak_at_k(np.stack(scores, axis=1)).T
    at = tuple(float(k) for k in range(1, draws + 1))
    # At every point all draws: a refusal is one, whether or not it is the best of k.
    every = np.broadcast_to(np.stack(kinds), (draws, draws, len(asked)))
    return Found(at, curve_KxN, plainly(model, rows), kinds=every)


def least_likely(
    model: Attacked, rows: Rows, budget: Budget, progress: Progress
) -> Found:
    """Answers of the least likely token each time: what ascent has pushed to the end
    of the order."""
    subject = model.subject
    asked = [subject.prompt(row.question) for row in rows.scored]
    said = subject.continued(model.params, asked, least_likely=True)
    return _answered(rows.scored, said, plainly(model, rows))


ROUGE = "ROUGE-L recall of the answer"


def _attack(
    title: str, source: str, budget: str, run: Callable[..., Found], **more
) -> Attack:
    return Attack(title, source, ROUGE, budget, run, **more)


PARAPHRASES = _attack(
    "Paraphrased questions",
    "2401.06121",
    "one greedy answer",
    paraphrased,
    needs=("paraphrased",),
    asks=True,
)
AGREEMENT = _attack(
    "Forced agreement",
    "2506.12618",
    "one greedy answer behind {agreement!r}",
    agreement,
    asks=True,
)
FIRST_TOKENS = _attack(
    "First tokens given",
    "2407.06460",
    "one greedy answer behind its first {first_tokens} tokens",
    first_tokens,
    axis="tokens of the answer given",
)
SAMPLING = _attack(
    "Sampling (leak@k)",
    "2511.04934",
    "{draws} answers drawn at temperature {temperature:g}, seed {seed}",
    sampling,
    axis="k, draws of which the best counts",
)
LEAST_LIKELY = _attack(
    "Least likely tokens",
    "2608.29943",
    "one answer of the least likely token each time",
    least_likely,
)
