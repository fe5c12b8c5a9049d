"""What a model knows of documents, besides what it knows of answers."""

from collections.abc import Mapping, Sequence

from ofmu_jax.data.language.records import QA, UnlearningData
from ofmu_jax.evals.evaluation import Evaluation
from ofmu_jax.evals.language import metrics
from ofmu_jax.evals.language.tofu import SETS, ScoreFn


def add_documents(
    result: Evaluation,
    data: UnlearningData,
    blocks: Mapping[str, Sequence[QA]],
    score: ScoreFn,
) -> None:
    """Adds ``*_verbmem_ROUGE`` and ``*_NLL`` of forget and retain documents.

    The first is MUSE's verbatim memorisation (Shi et al. 2024, arXiv:2407.06460):
    ROUGE-L F1, with stemming as in open-unlearning, of greedy continuations of the
    prefixes. The second is nats per token over whole documents.

    Args:
      result: the evaluation of the passages, answers included if there are any.
      data: whose evaluation sets are passages.
      blocks: name of a set -> blocks of documents.
      score: as of `evaluate_language`.
    """
    for name, rows in blocks.items():
        true = [row.answer.strip() for row in getattr(data, SETS[name])]
        if name in result.generations:
            said = result.generations[name]
            result.add_mean(f"{name}_verbmem_ROUGE", metrics.rouge_l_f1(said, true))
        found = score([(row.question, row.answer) for row in rows])
        result.add_mean(f"{name}_NLL", [scores.avg_loss for scores in found])
