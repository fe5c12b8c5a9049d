"""The same number of trials for every method, on what is not reported.

A method is tuned on the *validation request* of its domain: retain rows (or images)
that play the forget set, to be forgotten by the model that was trained on the retain
rows alone, against one retrained without them as well. The first of these is the
reference of the real request, so tuning trains one model more, and neither a forget
row nor a reported number has a part in it.

A trial's score is its distance from the retrained model, as the domain measures it.
Trial 0 is the configuration as it stands, the next are a scrambled Sobol sequence over
the search space that each method declares, and from the seventh on half of all lie
near the best so far (`experiments.pipeline.search`).
"""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from experiments.config import stored
from experiments.config.common import Run
from experiments.config.fields import value_of, with_values
from experiments.domains.base import REFERENCE, Model
from experiments.pipeline import broken, search, tracking
from experiments.pipeline.pipeline import Pipeline
from experiments.report import published
from experiments.shell import console
from experiments.stages.files import fingerprint, to_json
from experiments.stages.stage import Stage
from ofmu_jax.methods.base import Span

SPENT = ("gradient_evaluations", "seconds", "compile_seconds")  # by a trial


class Tuning:
    """Trials of a run, each a stage under ``OUT/tuning``; made from its pipeline."""

    def __init__(self, pipeline: Pipeline):
        run = pipeline.run
        domain = pipeline.domain.validation(run.output_dir / "tuning")
        target = pipeline.trained(REFERENCE, run.seeds[0])
        self.validation = pipeline.of(domain)
        reference = self.validation.trained(REFERENCE, run.seeds[0])
        assert target is not None and reference is not None  # `validation` sees to it
        self.start = self.validation.start(run.seeds[0], target, reference)
        self.yardstick = domain.yardstick(reference)

    def method(self, name: str) -> tuple[Any, list[dict[str, Any]]]:
        """The best configuration of a method, and the record of all its trials."""
        run, trial = self.validation.run, functools.partial(self._trial, name)
        return search.best(run.config_of(name), searched(run, name), run.tune, trial)

    def _trial(self, name: str, number: int, config: Any) -> dict[str, Any]:
        """The record of a trial; one that breaks has no score, and no stage is done."""
        made = {"trial": number, "config": dataclasses.asdict(config)}
        try:
            return self._scored(name, number, config, made)
        except broken.causes() as error:
            reason = broken.reason_of(error)
            console.warning(f"{self._title(name, number)} broke off: {reason}")
            nothing = {"score": None, "check": {}, "reference": {}}
            spent = dict.fromkeys(SPENT)
            return to_json({**made, **nothing, **spent, "stopped": reason})

    def _title(self, name: str, number: int) -> str:
        return f"tune {name}, trial {number + 1} of {tries(self.validation.run, name)}"

    def _scored(
        self, name: str, number: int, config: Any, made: dict[str, Any]
    ) -> dict[str, Any]:
        run, domain = self.validation.run, self.validation.domain
        start, seed = self.start, self.start.seed
        job = domain.variant(run.with_method(name, config)).unlearning(
            name, seed, start.target.params, start.goal
        )
        made_from = name, job.made_from, start.goal, seed
        identity = fingerprint(start.target.identity, domain.identity, *made_from)
        stage = Stage(run.output_dir / name / f"trial{number}", identity)
        self.validation.progress.reach(stage.folder, "tune")
        if not stage.done:
            label = self._title(name, number)
            of = run.with_method(name, config), "trial", name, seed, stage
            with (
                tracking.training(*of) as told,
                self.validation.fitted(stage, job, label, seed, told) as fitted,
            ):
                params, record = fitted
                model = Model(
                    *("unlearned", name, seed, params, identity, record, stage.folder),
                    network=job.network,
                )
                found = domain.scored(model, self.yardstick)
                told.evaluated({**found.check, "score": found.score})
                spent = {key: record[key] for key in (*SPENT, "stopped")}
                stage.finish(made | found._asdict() | spent)
        stage.tidy()
        return stage.result


def searched(run: Run, name: str) -> dict[str, Span]:
    """Field -> where it is searched: what was given on the command line stays so, and
    with --paper what the paper's literal setting says."""
    spec = run.specs[name]
    fixed = set(run.given(name))
    if run.paper and spec.paper is not None:
        ours, literal = spec.config, spec.paper(spec.config)
        fixed |= {p for p in spec.search if value_of(literal, p) != value_of(ours, p)}
    return {p: span for p, span in spec.search.items() if p not in fixed}


def tries(run: Run, name: str) -> int:
    """How many trials a method gets: one where nothing of it is searched."""
    return run.tune if searched(run, name) else 1


def trials(run: Run) -> dict[str, int]:
    """The stages of tuning by kind: a reference of its own, and all trials."""
    return {"train": 1, "tune": sum(tries(run, name) for name in run.methods)}


def tuned(pipeline: Pipeline) -> tuple[Pipeline, dict[str, list[dict[str, Any]]]]:
    """The pipeline with the best configuration of every method, and all trials.

    Raises:
      ValueError: if no reference can be trained for the validation request.
    """
    run, tuning, records = pipeline.run, Tuning(pipeline), {}
    for name in run.methods:
        config, records[name] = tuning.method(name)
        run = run.with_method(name, config)
    return pipeline.of(pipeline.domain.variant(run)), records


def tuned_elsewhere(run: Run, source: pathlib.Path) -> Run:
    """The run with the configuration that its methods had in an earlier run.

    Those of ``run.tuned_except`` keep their own; so does an option that was given, and
    one that was not there yet when that run was recorded.

    Args:
      source: output folder of that run, whose ``config.json`` is read, or a file of
        results that `experiments.publish` made of it.

    Raises:
      ValueError: if there is none, or it did not run a method, or has other settings.
    """
    found = _recipe(run, source)
    taken = [name for name in run.methods if name not in run.tuned_except]
    strange = [name for name in taken if name not in found["methods"]]
    if strange:
        raise ValueError(
            f"--tuned-from {source} did not run {', '.join(strange)} (it ran "
            f"{', '.join(found['methods'])}); add --tuned-except {' '.join(strange)}."
        )
    untuned = [name for name in taken if not _was_tuned(found, name)]
    if untuned:
        console.note(
            f"--tuned-from {source} tuned no {', '.join(untuned)}: taken as configured "
            "there."
        )
    for name in taken:
        run = _taken(run, source, name, found)
    return run


def _recipe(run: Run, source: pathlib.Path) -> dict[str, Any]:
    """The choices of the run at a source, if it is of the same domain."""
    no_run = (
        f"--tuned-from {source} is no output folder of a finished or tuned run and no "
        "file of published results"
    )
    try:
        if source.is_file():
            found = published.load(source, *published.WITH_RECIPE)["recipe"]
        else:
            found = json.loads((source / "config.json").read_bytes())
    except (OSError, ValueError, KeyError, RecursionError) as error:
        raise ValueError(f"{no_run}: {error}.") from error
    if not isinstance(found, dict) or not isinstance(found.get("methods"), list):
        raise ValueError(f"{no_run}: it names no methods.")
    if not all(isinstance(name, str) for name in found["methods"]):
        raise ValueError(f"{no_run}: its methods are {found['methods']}.")
    if not isinstance(found.get(run.group), dict):
        raise ValueError(f"{no_run} of the same kind: it has no {run.group}.")
    return found


def _was_tuned(found: Mapping[str, Any], name: str) -> bool:
    """Whether an earlier run tuned a method, or took it from one that did."""
    if found.get("tune"):
        return True
    spared = found.get("tuned_except")
    spared = spared if isinstance(spared, list) else []
    return bool(found.get("tuned_from")) and name not in spared


def _taken(run: Run, source: pathlib.Path, name: str, found: Mapping[str, Any]) -> Run:
    """The run with one method configured as it was, but for the options given here."""
    ours = run.config_of(name)
    values = found[run.group].get(name) or found.get(name)
    if values is None:
        raise ValueError(f"--tuned-from {source} has no configuration of {name}.")
    try:
        config = stored.filled(ours, values)
    except ValueError as error:
        raise ValueError(f"--tuned-from {source}, {name}: {error}") from None
    for field in run.given(name):
        given, there = (value_of(found, field) for found in (ours, config))
        config = with_values(config, {field: given})
        if given != there:
            flag = f"{name}.{field}".replace("_", "-")
            console.note(f"--{flag} {given} stays as given; {source} has {there}.")
    return run.with_method(name, config)
