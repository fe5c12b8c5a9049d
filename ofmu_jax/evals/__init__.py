"""Evaluation of unlearned language models.

`scores` runs the model, `metrics` and `privacy` are the definitions, `intervals` the
uncertainty; `tofu.evaluate_language` puts them together.
"""

from ofmu_jax.evals.evaluation import EvalOptions as EvalOptions
from ofmu_jax.evals.evaluation import Evaluation as Evaluation
from ofmu_jax.evals.language.comparison import (
    compare_with_reference as compare_with_reference,
)
from ofmu_jax.evals.language.scores import EvaluationError as EvaluationError
from ofmu_jax.evals.language.scores import TokenScores as TokenScores
from ofmu_jax.evals.language.scores import pair_scorer as pair_scorer
from ofmu_jax.evals.language.scores import score_batches as score_batches
from ofmu_jax.evals.language.tofu import evaluate_language as evaluate_language
from ofmu_jax.evals.language.tofu_log import from_tofu_log as from_tofu_log
