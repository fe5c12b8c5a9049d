"""One pretrained model, all of TOFU, forget10 with many methods, within minutes.

The run is one of `experiments.run tofu`, by the same pipeline and with the same
options, at other defaults. What it adds: files that are prepared for a machine without
a network and come in parts, a limit of time, and one file out, whatever was finished.
"""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar

import tyro

from experiments.config.language import Baselines, Tofu
from experiments.config.parts import BudgetConfig, EvalConfig, TrainConfig
from experiments.domains.base import Model
from experiments.pipeline.execute import begun, configured
from experiments.pipeline.pipeline import Pipeline
from experiments.report import content
from experiments.shell import console
from experiments.stages import lock
from experiments.stages.files import write_json, write_text
from experiments.studies.forget10 import expected, inputs
from experiments.studies.forget10.clock import Clock
from ofmu_jax.bounds import Bound, Count, Positive
from ofmu_jax.methods.language.ofmu import PRETRAINED

# Those that a comparison needs most come first: time may end before the last.
METHODS = (
    *("ofmu", "npo", "simnpo", "grad_diff", "idk_dpo", "rmu", "undial", "altpo"),
    *("ngdiff", "saul", "npo_sam", "pdu", "gradient_ascent", "kl_minimization"),
    *("wga", "satimp", "ceu", "blur", "blur_rmu", "pcgrad", "gru", "hamu"),
)
RATE = 1e-4  # of every method: not tuned
STUDY = Tofu(
    output_dir=pathlib.Path("runs/forget10"),
    methods=METHODS,
    seeds=(0, 1, 2),
    dtype="bfloat16",
    ofmu=dataclasses.replace(PRETRAINED, outer_learning_rate=RATE),
    baselines=dataclasses.replace(
        Baselines(),
        **{
            field.name: dataclasses.replace(
                getattr(Baselines(), field.name), learning_rate=RATE
            )
            for field in dataclasses.fields(Baselines)
        },
    ),
    checkpoint_every=0,
    export=False,
    train=TrainConfig(epochs=5, batch_size=32, learning_rate=3e-4),
    # Five epochs of the forget rows for a method of two gradients an update.
    budget=BudgetConfig(
        gradient_evaluations=120, batch_size=32, checks=4, check_rows=64
    ),
    evaluation=EvalConfig(batch_size=512, max_new_tokens=200, max_rows=200),
)
MODULE = "experiments.benchmark"
ROWS, FORGET01 = 4000, 40
LEAST = 8  # gradients that a rehearsal leaves: two updates of the dearest method

Publish = Callable[[Mapping[str, Any]], tuple[dict[str, Any], str]]


@dataclasses.dataclass(frozen=True)
class Forget10:
    """A pretrained model on all of TOFU, forget10 with all methods, within minutes.

    Give --base-model and --data-dir, or a --pack that has both. It goes on where it
    stopped, after every model; every option of experiments.run tofu holds here too.
    """

    specs: ClassVar = Tofu.specs
    everyday: ClassVar = (
        *("run.base_model", "run.data_dir", "pack", "prepare", "seconds", "divide"),
        *("output", "run.methods", "run.seeds"),
    )

    seconds: Positive = 720.0
    """From the start: no model is begun that would not be ready by then, judged by
    what others took."""
    output: pathlib.Path = pathlib.Path("forget10.json")
    """The one file out, as experiments.publish writes it, after every model; beside it
    a page with its tables (.md)."""
    divide: Annotated[int, Bound(1, 50)] = 1
    """A rehearsal with so small a part of the rows, the budget and the evaluation; of
    the forget rows forget01's, the fewest that there are."""
    prepare: pathlib.Path | None = None
    """Write a pack for another machine to this new folder, and end: weights, rows and
    their tokens."""
    part_mib: Count = 60
    """MiB of a part of the pack, at most."""
    pack: pathlib.Path | None = None
    """Folder with all parts of a pack, in place of --base-model and --data-dir."""
    only_plan: bool = False
    """Say what it would take, and end."""
    flops: Positive = expected.RATE
    """Operations a second that the plan reckons with."""
    run: Annotated[Tofu, tyro.conf.arg(name="")] = STUDY

    def told(self, arguments: Sequence[str]) -> "Forget10":
        """With the options of methods that a command line gives noted."""
        return dataclasses.replace(self, run=self.run.told(arguments))


def divided(run: Tofu, by: int) -> Tofu:
    """A run with one so-manieth of rows, budget and evaluated rows.

    >>> small = divided(STUDY, 50)
    >>> small.split, small.max_retain, small.budget.gradient_evaluations
    ('forget01', 40, 8)
    """
    if by == 1:
        return run
    gradients = max(run.budget.gradient_evaluations // by, LEAST)
    rows = run.evaluation.max_rows or ROWS // 10
    return dataclasses.replace(
        run,
        split="forget01",
        max_retain=max(ROWS // by - FORGET01, FORGET01),
        budget=dataclasses.replace(run.budget, gradient_evaluations=gradients),
        evaluation=dataclasses.replace(run.evaluation, max_rows=max(rows // by, 2)),
    )


def main(config: Forget10, publish: Publish) -> None:
    """Prepares, plans, or does the study.

    Args:
      publish: from the content of a report to what is written: JSON values, a page.
    """
    clock = Clock(config.seconds, _took(config.output))
    run = divided(config.run, config.divide)
    with lock.held(run.output_dir), console.progress() as progress:
        if config.pack is not None:
            run = inputs.unpacked(config.pack, run)
        _check(run)
        domain = inputs.domain_of(configured(run), packed=config.pack is not None)
        pipeline = begun(domain.run, progress, domain=domain)
        if config.prepare is not None:
            count = inputs.prepared(config.prepare, domain, config.part_mib)
            console.result(f"{config.prepare}: {count} parts and pack.json")
            return
        plan = expected.rows(domain)
        console.console.print(expected.table(plan, config.flops))
        if not config.only_plan:
            _run(config, pipeline, clock, expected.to_json(plan, config.flops), publish)


def _run(
    config: Forget10,
    pipeline: Pipeline,
    clock: Clock,
    plan: Mapping[str, Any],
    publish: Publish,
) -> None:
    """Model after model while there is time; all that is known after each."""
    run, done, missing = pipeline.run, [], []
    reported = functools.partial(content.report_content, trials={}, module=MODULE)
    study = {"seconds": config.seconds, "divided_by": config.divide, "plan": plan}
    for model in models(pipeline, clock):
        done.append(model)
        have = {(x.name, x.seed) for x in done}
        missing = [
            f"{name}, seed {seed}"
            for name in run.methods
            for seed in run.seeds
            if (name, seed) not in have
        ]
        study |= {"took": clock.took, "not_run": missing}
        found, page = publish(reported(pipeline.domain, done))
        write_json(config.output, {**found, "study": study})
        write_text(config.output.with_suffix(".md"), page)
    console.result(f"{config.output}: {len(done)} models; {clock.left:.0f} s were left")
    if missing:
        console.warning(
            f"{len(missing)} of {len(missing) + len(done) - 2} models were not made, "
            f"the first is {missing[0]}: it would not be ready within --seconds "
            f"{config.seconds:g}. Run the command again to go on."
        )


def models(pipeline: Pipeline, clock: Clock) -> Iterator[Model]:
    """Reference and target; then all seeds of a method before the next one.

    It ends before a model that would not be ready in time.
    """
    seeds = pipeline.run.seeds
    start = yield from pipeline.begun(seeds[0])
    for name in pipeline.run.methods:
        for seed in seeds:
            if not clock.fits(name, seed):
                return
            begun = clock.now()
            model = pipeline.method(name, start._replace(seed=seed))
            clock.lap(name, seed, begun)
            yield model


def _took(output: pathlib.Path) -> Mapping[str, Mapping[str, float]]:
    """Seconds that the models of an earlier start took, by method and seed."""
    try:
        return json.loads(output.read_bytes())["study"]["took"]
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"--output {output} is no result of this study; name another file."
        ) from error


def _check(run: Tofu) -> None:
    """What the study needs of a run.

    Raises:
      ValueError: naming the option and the remedy.
    """
    if run.base_model is None or run.data_dir is None:
        raise ValueError(
            "give --base-model and --data-dir, or a --pack that has both: the study "
            "fine-tunes a pretrained model, and its machine may have no network."
        )
    if run.model or run.retain_model or run.tune or not run.share_models:
        raise ValueError(
            "the study trains one target and one retrained model for all seeds and "
            "tunes nothing: leave out --model, --retain-model, --tune and "
            "--no-share-models; --tuned-from takes what was tuned elsewhere."
        )
