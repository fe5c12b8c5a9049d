"""The same number of trials for every method, on people that are not reported.

A method is tuned on the *validation request*: as many of the last retain rows as
there are forget rows, to be forgotten by the model that was trained on the retain
rows alone, against one retrained without them as well. The first of these is the
reference of the real request, so tuning trains one model more, and neither a forget
row nor a reported number has a part in it.

A trial's score is its distance from the retrained model on the training rows:
|p_forget − p*_forget| + max(0, p*_retain − p_retain), p being the mean probability of
an answer and * the retrained model's. Trial 0 is the configuration as it stands, the
next are a scrambled Sobol sequence over the learning rate and the search space that
each method declares, and from the seventh on half of all lie near the best so far
(`experiments.pipeline.search`).
"""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from experiments.config import stored
from experiments.config.language import LanguageRun
from experiments.domains.language import job
from experiments.pipeline import search
from experiments.pipeline.language import REFERENCE, Model, Pipeline
from experiments.publishing import run as publish
from experiments.stages import fit
from experiments.stages import saver as resuming
from experiments.stages.stage import Stage, fingerprint
from ofmu_jax.data.language.records import DataError, UnlearningData
from ofmu_jax.training import loop


def validation_request(data: UnlearningData) -> UnlearningData:
    """The request that methods are tuned on, made of the retain rows.

    Raises:
      DataError: if there are not twice as many retain rows as forget rows.
    """
    count = len(data.forget)
    if len(data.retain) < 2 * count:
        raise DataError(
            f"--tune sets {count} retain rows aside as a forget set of its own and "
            f"there are only {len(data.retain)}; give more retain rows."
        )
    return UnlearningData(
        name=f"{data.name}/validation",
        forget=data.retain[-count:],
        retain=data.retain[:-count],
        full=data.retain,
        holdout=data.holdout,
    )


def score(check: Mapping[str, float], reference: Mapping[str, float]) -> float:
    """Distance from the retrained model, 0 … 2; see the module.

    >>> before = {"forget_prob": 0.9, "retain_prob": 0.9}
    >>> round(score(before, {"forget_prob": 0.2, "retain_prob": 1.0}), 6)
    0.8
    """
    forgot = abs(check["forget_prob"] - reference["forget_prob"])
    return forgot + max(0.0, reference["retain_prob"] - check["retain_prob"])


class Tuning:
    """Trials of a run, each a stage under ``OUT/tuning``; made from its pipeline."""

    def __init__(self, pipeline: Pipeline, reference: Model):
        run = pipeline.run
        self.validation = pipeline.variant(
            dataclasses.replace(run, output_dir=run.output_dir / "tuning"),
            validation_request(pipeline.data),
        )
        seed = run.seeds[0]
        self.target = reference
        retrained = self.validation.trained(REFERENCE, seed)
        assert retrained is not None  # there is one where there is a reference
        self.problem = self.validation.problem(seed, reference, retrained)
        self.goal = self.problem.checks()(retrained.params)

    def method(self, name: str) -> tuple[Any, list[dict[str, Any]]]:
        """The best configuration of a method, and the record of all its trials."""
        run = self.validation.run
        trial = functools.partial(self._trial, name)
        return search.best(run.method(name), run.specs[name].search, run.tune, trial)

    def _trial(self, name: str, number: int, config: Any) -> dict[str, Any]:
        problem = dataclasses.replace(
            self.problem, run=self.problem.run.with_method(name, config)
        )
        forget_target = problem.forget_target()
        stage = Stage(
            self.validation.run.output_dir / name / f"trial{number}",
            fingerprint(
                self.target.identity,
                self.validation.identity,
                job.identity(problem, name, forget_target),
            ),
        )
        if not stage.done:
            method, options = job.make(problem, name, forget_target)
            options["label"] = f"tune {name}, trial {number}"
            options["progress"] = self.validation.progress
            options["mesh"] = problem.task.mesh
            with resuming.resumable(stage, problem.run.checkpoint_every) as saver:
                found = fit.fit(method, problem.target, saver=saver, **options)
                stage.finish({"trial": number} | self._found(config, *found))
        resuming.tidy(stage)
        return stage.result

    def _found(
        self, config: Any, result: loop.Run, record: Mapping[str, Any]
    ) -> dict[str, Any]:
        returned = [c for c in result.checks if c["update"] == result.update][-1]
        return {
            "config": dataclasses.asdict(config),
            "score": score(returned, self.goal),
            "check": returned,
            "reference": dict(self.goal),
            "gradient_evaluations": record["gradient_evaluations"],
            "seconds": record["seconds"],
            "stopped": record["stopped"],
        }


def tuned(pipeline: Pipeline) -> tuple[LanguageRun, dict[str, list[dict]]]:
    """The run with the best configuration of every method, and all trials by method.

    Raises:
      ValueError: if no reference can be trained for the validation request.
    """
    run = pipeline.run
    if (run.model or run.retain_model) and not run.base_model:
        raise ValueError(
            "--tune needs models that are trained here: leave out --model and "
            "--retain-model, or give --base-model to train references from."
        )
    reference = pipeline.trained(REFERENCE, run.seeds[0])
    assert reference is not None
    tuning, records = Tuning(pipeline, reference), {}
    for name in run.methods:
        config, records[name] = tuning.method(name)
        run = run.with_method(name, config)
    return run, records


def tuned_elsewhere(run: LanguageRun, source: pathlib.Path) -> LanguageRun:
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
            found = publish.load(source)["recipe"]
        else:
            found = json.loads((source / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise ValueError(
            f"--tuned-from {source} is no output folder of a finished or tuned run and "
            f"no file of published results: {error}."
        ) from error
    values = found | found.get(run.group, {})
    for name in run.methods:
        if name in run.tuned_except:
            continue
        if values.get(name) is None:
            raise ValueError(f"--tuned-from {source} has no configuration of {name}.")
        run = run.with_method(name, stored.filled(run.method(name), values[name]))
    return run
