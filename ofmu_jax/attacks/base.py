"""What an attack is given, and what it leaves: a score of every row that was to go.

An attack is a pure function of a model and rows. Its scores are turned so that higher
always means that more is told of the forget rows. No number of a single model says
that something was forgotten: the model that never saw the rows is attacked in the very
same way, and what it gives away is what can be guessed.
"""

import dataclasses
import string
from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from ofmu_jax.attacks.once import Made, once
from ofmu_jax.data.language.prompts import Encoded
from ofmu_jax.data.language.records import QA
from ofmu_jax.evals.language.scores import TokenScores
from ofmu_jax.evals.language.spans import Entities
from ofmu_jax.models.llama.config import LlamaConfig
from ofmu_jax.models.llama.model import Llama

PROBABILITY = "answer probability"  # length-normalised, teacher-forced

Params = Any
Progress = Callable[[float], None]  # is told the share of the work that is done


class Subject(Protocol):
    """A language model beside its parameters: network, tokens, conventions."""

    @property
    def config(self) -> LlamaConfig: ...

    @property
    def model(self) -> Llama: ...

    @property
    def apply_fn(self) -> Callable[[Params, Any, Any], jax.Array]:
        """(params, input_ids, attention_mask) -> logits; always the same object."""
        ...

    @property
    def tokenizer(self) -> Any: ...

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """Every token that ends an answer."""
        ...

    @property
    def ended(self) -> bool:
        """Whether a token ends an answer: none ends a passage of a document."""
        ...

    @property
    def padding(self) -> dict[str, Any]:
        """How rows and prompts are padded: ``pad_id`` and ``interior_eot``."""
        ...

    @property
    def batch_size(self) -> int:
        """Of scores and answers."""
        ...

    @property
    def max_new_tokens(self) -> int:
        """Of answers."""
        ...

    def prompt(self, question: str) -> np.ndarray:
        """Token ids of a question, up to where the answer begins."""
        ...

    def encode(self, rows: Sequence[QA]) -> list[Encoded]:
        """Token ids and labels of questions with their answers."""
        ...

    def score_encoded(
        self, params: Params, examples: Sequence[Encoded]
    ) -> list[TokenScores]:
        """Per-token scores of rows that are encoded already."""
        ...

    def generate(
        self,
        params: Params,
        questions: Sequence[str],
        temperature: float = 0.0,
        seed: int = 0,
    ) -> list[str]:
        """Answers: greedy, or drawn."""
        ...

    def continued(
        self,
        params: Params,
        beginnings: Sequence[np.ndarray],
        temperature: float = 0.0,
        seed: int = 0,
        least_likely: bool = False,
    ) -> list[str]:
        """What follows these token ids: greedy, drawn, or the least likely."""
        ...

    def decode(self, rows: Sequence[np.ndarray]) -> list[str]:
        """Texts of new tokens, without the one that ends them."""
        ...


class Attacked(NamedTuple):
    """A model under attack, and those that an auditor may hold beside it."""

    subject: Subject
    params: Params
    target: Params | None = None  # what it was unlearned from
    reference: Params | None = None  # trained without the forget rows
    shadows: Any = None  # what models of other seeds say: `vision.u_lira.Shadows`
    # What attacks made for one another; None: each makes all of it itself.
    own: Made | None = None  # of this model
    common: Made | None = None  # of the two beside it, for all models beside these


class Rows(NamedTuple):
    """What an attacker may have, and what is scored."""

    scored: tuple[QA, ...]  # one score each; facts that were to be forgotten
    forget: tuple[QA, ...]  # training rows to be forgotten, scored ones among them
    retain: tuple[QA, ...] = ()
    holdout: tuple[QA, ...] = ()  # of the same kind, seen by no model
    contrasts: tuple[QA, ...] = ()  # kept facts, wrong answers beside the right one
    entities: Entities = MappingProxyType({})  # the words that tell a fact, where known
    text: tuple[str, ...] = ()  # passages that have nothing to do with any row

    @property
    def documents(self) -> bool:
        """Whether the rows are passages of documents, which ask nothing."""
        return bool(self.forget) and self.forget[0].is_text

    @property
    def paraphrased(self) -> tuple[QA, ...]:
        """Scored rows whose question there is in other words."""
        return tuple(row for row in self.scored if row.paraphrased_question)

    @property
    def contrasted(self) -> tuple[QA, ...]:
        """Scored rows with wrong answers beside the right one."""
        return tuple(row for row in self.scored if row.perturbed_answers)


class Found(NamedTuple):
    """What an attack got: K points of a curve, N rows, all turned so that higher leaks.

    The value at a point is the mean over the rows; with ``holdout`` it is the AUC of
    the rows against those, the probability that one of the first scores higher.
    """

    at: tuple[float, ...]  # K points: steps, shares, layers, draws; one for no curve
    scores: np.ndarray  # shape (K, N), float
    before: np.ndarray | None = None  # (N,), without the attack; None: no such thing
    holdout: np.ndarray | None = None  # (K, M): rows that no model saw
    said: str = ""  # what the attack chose within its budget
    kinds: np.ndarray | None = None  # (K, …, N), of answers: `answers.KINDS`


@dataclasses.dataclass(frozen=True)
class Attack:
    """An attack's entry in the registry.

    ``budget`` is a format string with every field of `Budget` that the attack depends
    on: what a table says of it is what its result is filed under.
    """

    title: str
    source: str  # arXiv number
    unit: str  # of the score
    budget: str
    run: Callable[[Attacked, Any, Any, Progress], Found]  # (model, rows, budget, …)
    axis: str = ""  # of its curve; "": a single number
    needs: tuple[str, ...] = ()  # fields of `Rows` without which it cannot be run
    least: int = 1  # scored rows
    beside: tuple[str, ...] = ()  # models of `Attacked` without which it cannot be run
    asks: bool = False  # a question, which no document has

    def budget_text(self, budget: Any) -> str:
        """The budget in words.

        >>> from ofmu_jax.attacks.budget import Budget
        >>> Attack("", "", "", "lr {relearn_rate:g}", lambda *_: None).budget_text(
        ...     Budget(relearn_rate=1e-5))
        'lr 1e-05'
        """
        return _Lists().format(self.budget, **vars(budget))

    def lacks(self, rows: Any, model: Attacked) -> str | None:
        """Why it cannot be run on such rows and models; None: it can."""
        if self.asks and rows.documents:
            return "it asks questions, and the forget rows are documents"
        absent = [f"{name} rows" for name in self.needs if not getattr(rows, name)]
        absent += [f"a {k} model" for k in self.beside if getattr(model, k) is None]
        if absent:
            return f"it needs {' and '.join(absent)}"
        if len(rows.scored) < self.least:
            return f"it needs {self.least} forget rows at least"
        return None


class _Lists(string.Formatter):
    """Tuples as words with commas between; a format is one of their entries."""

    def format_field(self, value: Any, format_spec: str) -> str:
        values = value if isinstance(value, tuple) else (value,)
        return ", ".join(format(x, format_spec) for x in values)


def probabilities(
    subject: Subject, params: Params, examples: Sequence[Encoded]
) -> np.ndarray:
    """Length-normalised probability of each answer, shape (N,): the usual score."""
    scores = subject.score_encoded(params, examples)
    return np.array([score.probability for score in scores])


def unaided(model: Attacked, rows: Rows) -> np.ndarray:
    """`probabilities` of the scored answers without an attack, shape (N,)."""

    def make() -> np.ndarray:
        examples = model.subject.encode(rows.scored)
        return probabilities(model.subject, model.params, examples)

    return once(model.own, ("probabilities", rows.scored), make)
