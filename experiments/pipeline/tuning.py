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
from typing import Any

from experiments.config import stored
from experiments.config.common import Run
from experiments.domains.base import REFERENCE, Model
from experiments.pipeline import search
from experiments.pipeline.pipeline import Pipeline
from experiments.report import published
from experiments.stages.files import fingerprint
from experiments.stages.saver import tidy
from experiments.stages.stage import Stage


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
        run, space = self.validation.run, self.validation.run.specs[name].search
        trial = functools.partial(self._trial, name)
        return search.best(run.config_of(name), space, run.tune, trial)

    def _trial(self, name: str, number: int, config: Any) -> dict[str, Any]:
        run, domain = self.validation.run, self.validation.domain
        start, seed = self.start, self.start.seed
        job = domain.variant(run.with_method(name, config)).unlearning(
            name, seed, start.target.params, start.goal
        )
        made_from = name, job.made_from, start.goal, seed
        identity = fingerprint(start.target.identity, domain.identity, *made_from)
        stage = Stage(run.output_dir / name / f"trial{number}", identity)
        self.validation.progress.reach(stage.folder)
        if not stage.done:
            label = f"tune {name}, trial {number}"
            with self.validation.fitted(stage, job, label, seed) as (params, record):
                model = Model(
                    *("unlearned", name, seed, params, identity, record, stage.folder),
                    network=job.network,
                )
                found = domain.scored(model, self.yardstick)
                kept = ("gradient_evaluations", "seconds", "stopped")
                stage.finish(
                    {"trial": number, "config": dataclasses.asdict(config)}
                    | found._asdict()
                    | {key: record[key] for key in kept}
                )
        tidy(stage)
        return stage.result


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

    Those of ``run.tuned_except`` keep their own; so does an option that was not there
    yet when that run was recorded.

    Args:
      source: output folder of that run, whose ``config.json`` is read, or a file of
        results that `experiments.publish` made of it.

    Raises:
      ValueError: if there is none, or it lacks a method, or has other settings.
    """
    try:
        if source.is_file():
            found = published.load(source)["recipe"]
        else:
            found = json.loads((source / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise ValueError(
            f"--tuned-from {source} is no output folder of a finished or tuned run and "
            f"no file of published results: {error}."
        ) from error
    for name in run.methods:
        if name in run.tuned_except:
            continue
        values = (found.get(run.group) or {}).get(name) or found.get(name)
        if values is None:
            raise ValueError(f"--tuned-from {source} has no configuration of {name}.")
        run = run.with_method(name, stored.filled(run.config_of(name), values))
    return run
