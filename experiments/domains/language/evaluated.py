"""The evaluation of a language model: what of the library's it is made of."""

import functools
from collections.abc import Sequence
from typing import Any

from experiments.config.language import LanguageRun
from experiments.domains.base import Model, Tell
from experiments.domains.language.data import limited, spaced
from experiments.domains.language.task import LanguageTask, Params
from ofmu_jax.data.language import conversations
from ofmu_jax.data.language.kinds.continuations import continued
from ofmu_jax.data.language.records import UnlearningData
from ofmu_jax.data.order import evenly_spaced
from ofmu_jax.evals.evaluation import EvalOptions, Evaluation
from ofmu_jax.evals.language.choices import add_choices
from ofmu_jax.evals.language.documents import add_documents
from ofmu_jax.evals.language.scores import TokenScores
from ofmu_jax.evals.language.tofu import SETS, ScoreFn, evaluate_language, num_texts

ASKED = {"forget": 3, "retain": 2}  # questions that a report shows, of each set


def evaluated(
    task: LanguageTask,
    params: Params,
    data: UnlearningData,
    against: Evaluation | None = None,
    tell: Tell = lambda done, total: None,
) -> Evaluation:
    """The evaluation of a model by the conventions of its task.

    Args:
      against: the evaluation of the retrained model, to compare with.
      tell: hears how many texts and choices are scored and questions answered, of
        those of the evaluation's sets.
    """
    config = task.evaluation
    rows = limited(data, config.max_rows)
    exam = {} if rows.exam is None else rows.exam.sets
    choices = sum(len(row.choices) for part in exam.values() for row in part)
    total, done = num_texts(rows) + choices, 0

    def more(count: int) -> None:
        nonlocal done
        done += count
        tell(done, max(done, total))

    def counted(scores: ScoreFn) -> ScoreFn:
        def told(pairs: Sequence[tuple[str, str]]) -> Sequence[TokenScores]:
            found = scores(pairs)
            more(len(pairs))
            return found

        return told

    score = counted(functools.partial(task.score, params))
    evaluation = evaluate_language(
        rows,
        score=score,
        generate=lambda questions: task.generate(params, questions, after_rows=more),
        reference=against,
        options=EvalOptions(num_resamples=config.bootstrap),
    )
    evaluation.notes += _cut(task, rows)
    if data.documents:
        parts = {"forget": data.forget, "retain": data.retain}
        blocks = {name: spaced(part, config.max_rows) for name, part in parts.items()}
        add_documents(evaluation, rows, blocks, score)
    if rows.exam is not None:
        follow = counted(functools.partial(_followed, task, params))
        add_choices(evaluation, rows.exam, follow)
    return evaluation


def _followed(
    task: LanguageTask, params: Params, pairs: Sequence[tuple[str, str]]
) -> list[TokenScores]:
    """Scores of continuations of contexts, without any prompt format."""
    most = task.config.max_position_embeddings
    examples = [continued(task.tokenizer, *pair, most) for pair in pairs]
    return task.score_encoded(params, examples)


def asked(
    data: UnlearningData, run: LanguageRun, models: Sequence[Model]
) -> list[dict[str, Any]]:
    """Forget and retain questions, evenly spaced, with what each model answers; a
    model that has no answers is left out."""
    rows, found = limited(data, run.evaluation.max_rows), []
    said = {m.name: m.evaluation.generations for m in models if m.evaluation}
    for part, count in ASKED.items() if run.show_answers else ():
        own = getattr(rows, SETS[part])
        texts = {
            name: generations[part]
            for name, generations in said.items()
            if len(generations.get(part, ())) == len(own)
        }
        for place in evenly_spaced(len(own), count) if texts else ():
            row = own[place]
            answers = {name: text[place] for name, text in texts.items()}
            asked = conversations.shown(row.question)
            shown = {"question": asked, "answer": row.answer.strip()}
            found.append({"part": part, **shown, "said": answers})
    return found


def _cut(task: LanguageTask, data: UnlearningData) -> list[str]:
    """A note where right answers are cut short, so that ROUGE stays below 1."""
    most, found = task.evaluation.max_new_tokens, []
    for field in ("forget_eval", "retain_eval", "real_authors", "world_facts"):
        answers = [row.answer for row in getattr(data, field)]
        ids = answers and task.tokenizer(answers, add_special_tokens=False)["input_ids"]
        if longer := sum(len(tokens) > most for tokens in ids):
            found.append(f"{longer} of {len(ids)} {field}")
    if not found:
        return []
    return [
        f"ROUGE: answers end after {most} tokens (--evaluation.max-new-tokens); the "
        f"true ones are longer in {', '.join(found)}, and theirs cannot reach 1."
    ]
