"""What an evaluation takes, beside the same texts and scores in PyTorch.

``python -m experiments.benchmark evaluation`` times greedy answers and scores of all
rows of TOFU that an evaluation reads. With ``--against torch`` the ``generate`` of
transformers and its forward pass do the same with the same weights, at the best of
several batch sizes, in turns; how many texts are equal and how far scores are apart is
said.
"""

import dataclasses
import functools
import itertools
import os
import pathlib
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import jax
import numpy as np
from rich.table import Table

from experiments.config.language import Tofu
from experiments.config.parts import EvalConfig, ModelConfig
from experiments.domains.base import TARGET
from experiments.domains.language.data import limited, load_data
from experiments.domains.language.given import make_task
from experiments.planning.architectures import architecture
from experiments.shell.console import console
from experiments.stages.files import write_json
from experiments.studies import torch_evaluation
from ofmu_jax.bounds import Count
from ofmu_jax.data.language.prompts import Encoded
from ofmu_jax.data.language.records import QA
from ofmu_jax.evals.language.scores import TokenScores
from ofmu_jax.evals.language.tofu import SETS, evaluate_language

SMALL = ModelConfig(
    hidden_size=128, intermediate_size=384, num_layers=4, vocab_size=4096
)
ANSWERS = EvalConfig(max_new_tokens=200)  # the field's setting
DECIDED = 0.1  # standard deviation of random weights whose choices are clear ones
OURS, THEIRS = "ofmu_jax", "transformers"


@dataclasses.dataclass(frozen=True)
class Evaluated:
    """Greedy answers and scores of the rows that an evaluation of TOFU reads."""

    everyday: ClassVar = ("data_dir", "split", "model", "against", "rounds", "output")

    data_dir: pathlib.Path | None = None
    """Folder with the public TOFU files; without it they come from the hub."""
    split: Literal["forget01", "forget05", "forget10"] = "forget01"
    """1, 5 or 10 % of the authors: forget01, forget05, forget10."""
    max_retain: Count | None = 200
    model: str | None = None
    """Folder of the model, or a name that experiments.plan knows, such as
    smollm2-135m, for random weights; default: a small one with random weights."""
    against: Literal["nothing", "torch"] = "nothing"
    """torch: transformers' generate and scores as well; nothing: these alone."""
    evaluation: EvalConfig = ANSWERS
    torch_answers: tuple[int, ...] = (32, 64, 128)
    """Batch sizes of its greedy answers; the fastest counts."""
    torch_scores: tuple[int, ...] = (8, 32, 64)
    """Batch sizes of its scores; the fastest counts."""
    rounds: Count = 3
    """The median over rounds counts."""
    output: pathlib.Path | None = None
    """Where to write all numbers as JSON."""


class Work:
    """What is done with one model, here: answers and scores of all rows."""

    def __init__(self, config: Evaluated):
        given = config.model and pathlib.Path(config.model).is_dir()
        run = Tofu(
            data_dir=config.data_dir,
            split=config.split,
            max_retain=config.max_retain,
            model=config.model if given else None,
            model_size=SMALL,
            evaluation=config.evaluation,
        )
        data, _ = load_data(run)
        self.data = limited(data, config.evaluation.max_rows)
        self.task, models = make_task(run, data)
        if given:
            self.params = jax.device_put(models[TARGET])
        else:
            found = architecture(config.model) if config.model else self.task.config
            found = dataclasses.replace(found, initializer_range=DECIDED)
            self.task = dataclasses.replace(self.task, config=found)
            self.params = self.task.init_params(0)
        sets = [getattr(self.data, field) for field in SETS.values()]
        self.questions = [[row.question for row in rows] for rows in sets if rows]
        self.calls: list[list[Encoded]] = []  # what an evaluation has scored at once

    def first(self) -> float:
        """Seconds of a whole evaluation, compiling included."""

        def score(pairs: Sequence[tuple[str, str]]) -> list[TokenScores]:
            self.calls.append(self.task.encode([QA(*pair) for pair in pairs]))
            return self.task.score_encoded(self.params, self.calls[-1])

        generate = functools.partial(self.task.generate, self.params)
        start = time.perf_counter()
        evaluate_language(self.data, score=score, generate=generate)
        return time.perf_counter() - start

    def answers(self) -> list[str]:
        """Greedy answers to all questions."""
        questions = list(itertools.chain(*self.questions))
        return self.task.generate(self.params, questions)

    def losses(self) -> np.ndarray:
        """Mean negative log-likelihood a token of every text."""
        found = [self.task.score_encoded(self.params, rows) for rows in self.calls]
        return np.array([x.avg_loss for x in itertools.chain(*found)])


def measured(config: Evaluated) -> dict[str, Any]:
    """All that is measured, as JSON can hold it."""
    # What is compiled is to be counted, so nothing is read from where it is kept.
    jax.config.update("jax_enable_compilation_cache", False)
    work = Work(config)
    found: dict[str, Any] = {
        "device": jax.local_devices()[0].device_kind,
        "cores": os.cpu_count(),
        "jax": jax.__version__,
        "parameters": sum(x.size for x in jax.tree.leaves(work.params)),
        "seconds_of_the_first_evaluation": work.first(),
        "questions": sum(map(len, work.questions)),
        "texts": sum(map(len, work.calls)),
    }
    ways: dict[str, dict[str, Callable[[], Any]]] = {
        "answers": {OURS: work.answers},
        "scores": {OURS: work.losses},
    }
    if config.against == "torch":
        other = torch_evaluation.Other(work.task, work.params)
        prompts = [
            [work.task.prompt(question) for question in rows] for rows in work.questions
        ]
        sizes = {}
        for name, run, tried in (
            (
                "answers",
                functools.partial(other.answers, prompts),
                config.torch_answers,
            ),
            (
                "scores",
                functools.partial(other.losses, work.calls),
                config.torch_scores,
            ),
        ):
            sizes[name] = fastest(run, tried)
            ways[name][THEIRS] = functools.partial(run, sizes[name])
        found |= {"torch": other.versions, "torch_batch_sizes": sizes}
    for name, runs in ways.items():
        found[name], results = in_turns(runs, config.rounds)
        if THEIRS in results:
            found[name] |= compared(results[OURS], results[THEIRS])
    return found


def fastest(run: Callable[[int], Any], sizes: Sequence[int]) -> int:
    """The size with which a run takes least time."""
    if len(sizes) == 1:
        return sizes[0]
    seconds = {}
    for size in sizes:
        start = time.perf_counter()
        run(size)
        seconds[size] = time.perf_counter() - start
    return min(seconds, key=lambda size: seconds[size])


def in_turns(
    runs: Mapping[str, Callable[[], Any]], rounds: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Median seconds of each run, once a round, and what each found."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    results = {}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            results[name] = run()
            times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {"seconds": medians, "all_seconds": times}, results


def compared(ours: Any, theirs: Any) -> dict[str, Any]:
    """How alike two lists of texts or of losses are."""
    if isinstance(ours, list):
        return {"equal": sum(a == b for a, b in zip(ours, theirs, strict=True))}
    return {"largest_difference": float(np.max(np.abs(ours - np.asarray(theirs))))}


def table(found: Mapping[str, Any]) -> Table:
    """What `measured` found, for people."""
    title = (
        f"{found['parameters'] / 1e6:.1f} M parameters, {found['questions']} "
        f"questions, {found['texts']} texts; the first evaluation, compiling "
        f"included, took {found['seconds_of_the_first_evaluation']:.1f} s"
    )
    rows = Table("", title=title)
    for column in (f"{OURS}, s", f"{THEIRS}, s", "times as fast", "alike"):
        rows.add_column(column, justify="right")
    for name, count in (("answers", "questions"), ("scores", "texts")):
        seconds = found[name]["seconds"]
        cells = [f"{seconds[OURS]:.2f}"]
        if THEIRS in seconds:
            cells += [
                f"{seconds[THEIRS]:.2f}",
                f"{seconds[THEIRS] / seconds[OURS]:.2f}",
            ]
            equal, apart = (
                found[name].get(key) for key in ("equal", "largest_difference")
            )
            alike = f"{equal} of {found[count]}" if apart is None else f"± {apart:.1e}"
            cells.append(alike)
        rows.add_row(name, *cells)
    return rows


def main(config: Evaluated) -> None:
    """Measures, writes and prints."""
    found = {"options": as_json(config), **measured(config)}
    if config.output is not None:
        write_json(config.output, found)
    console.print(table(found))


def as_json(config: Evaluated) -> dict[str, Any]:
    """The options that say what was measured."""
    options = dataclasses.asdict(config)
    return {k: v for k, v in options.items() if not isinstance(v, pathlib.Path)}
