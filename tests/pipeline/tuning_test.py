"""Tuning: equal trials, the validation request, the score; every method is wired."""

import dataclasses
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import rest_slow

import experiments
from experiments.config import language
from experiments.config.language import (
    BudgetConfig,
    Demo,
    EvalConfig,
    ModelConfig,
    TrainConfig,
)
from experiments.config.refuse import check_run
from experiments.config.vision import Cifar, resolved
from experiments.domains.language import rows
from experiments.domains.language.data import validation_request
from experiments.domains.language.domain import LanguageDomain
from experiments.domains.language.goals import distance
from experiments.pipeline import execute, search, tuning
from experiments.pipeline.pipeline import Pipeline
from experiments.report import published
from experiments.run import parse
from experiments.stages.files import write_json
from ofmu_jax.data.language.fictitious import fictitious_people
from ofmu_jax.data.language.records import DataError
from ofmu_jax.methods import METHODS
from ofmu_jax.methods.base import Among
from ofmu_jax.methods.vision import registry

TINY = Demo(
    seeds=(0,),
    people=6,
    forget_people=1,
    methods=("npo", "gradient_ascent"),
    export=False,
    model_size=ModelConfig(32, 64, 2, 2, 1, 2048),
    train=TrainConfig(epochs=2, batch_size=16),
    budget=BudgetConfig(gradient_evaluations=24, batch_size=4, checks=2),
    evaluation=EvalConfig(batch_size=32, max_new_tokens=4, max_rows=4, bootstrap=20),
)
RESULTS = pathlib.Path(experiments.__file__).parent / "results"


@pytest.mark.parametrize("spec", [*METHODS.values(), *registry.METHODS.values()])
def test_trials_start_with_the_configuration_and_stay_in_the_space(spec):
    config, space = spec.config, spec.search
    found = search.trials(config, space, 5)
    assert found == search.trials(config, space, 5)
    assert len(set(map(str, found))) == 5 and found[0] == config
    for trial in found[1:]:
        for field, span in space.items():
            value = search.value_of(trial, field)
            if isinstance(span, Among):
                assert value in span.values
            else:
                assert span.low <= value <= span.high
    assert search.trials(config, space, 1) == [config]


@pytest.mark.parametrize(("count", "spread"), [(1, 1), (6, 6), (9, 6), (16, 8)])
def test_later_trials_gather_around_the_best(count, spread):
    config, space = TINY.config_of("npo"), METHODS["npo"].search
    goal = {"learning_rate": 2e-3, "loss.beta": 0.05, "loss.alpha": 0.7}
    seen = []

    def distance(found):
        return sum(
            abs(
                span.fraction(search.value_of(found, field))
                - span.fraction(goal[field])
            )
            for field, span in space.items()
        )

    def trial(number, found):
        assert number == len(seen)
        if number >= spread:  # in reach of the best before it
            for field, span in space.items():
                step = span.fraction(search.value_of(found, field)) - span.fraction(
                    search.value_of(min(seen, key=lambda s: s[0])[1], field)
                )
                assert abs(step) <= search.REACH + 1e-9
        seen.append((distance(found), found))
        return {"score": seen[-1][0]}

    chosen, records = search.best(config, space, count, trial)
    assert [found for _, found in seen][:spread] == search.trials(config, space, spread)
    assert len(records) == count and len(set(map(str, seen))) == count
    assert [r["chosen"] for r in records].count(True) == 1
    assert chosen == min(seen, key=lambda s: s[0])[1]
    if count == 16:  # a bowl: what gathers gets nearer than what is spread
        assert records[-1]["score"] < min(r["score"] for r in records[:spread])


def test_few_fields_move_at_once_and_every_field_gets_its_turn():
    config, space = METHODS["ofmu"].config, METHODS["ofmu"].search
    assert len(space) > search.MOVED
    made = []

    def trial(number, found):  # the first is the best: all others are near it
        made.append(found)
        return {"score": float(number)}

    search.best(config, space, 48, trial)
    differs = lambda found: {
        field
        for field in space
        if search.value_of(found, field) != search.value_of(config, field)
    }
    moved = [differs(found) for found in made[24:]]
    assert all(1 <= len(fields) <= search.MOVED for fields in moved)
    assert set().union(*moved) == set(space)


def test_the_validation_request_is_made_of_retain_rows_alone():
    data = fictitious_people(0, 6, 1)
    other = validation_request(data)
    assert len(other.forget) == len(data.forget)
    assert other.full == data.retain == other.retain + other.forget
    assert set(other.full).isdisjoint(data.forget)
    few = dataclasses.replace(data, retain=data.retain[: len(data.forget)])
    with pytest.raises(DataError, match="--tune sets 24 retain rows aside"):
        validation_request(few)


def test_score_counts_both_ways_of_forgetting_but_not_better_retention():
    goal = {"forget_prob": 0.3, "retain_prob": 0.9}
    score = lambda forget, retain: distance(
        {"forget_prob": forget, "retain_prob": retain}, goal
    )
    assert score(0.3, 0.95) == 0
    assert np.isclose(score(0.5, 0.9), 0.2)
    assert np.isclose(score(0.1, 0.8), 0.3)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A finished tiny run with two trials per method, and its report."""
    folder = tmp_path_factory.mktemp("tune") / "out"
    run = dataclasses.replace(TINY, tune=2, output_dir=folder)
    return run, execute.execute(run)


@pytest.mark.slow
def test_a_tuned_run_uses_the_best_trial_and_records_all(tuned):
    run, content = tuned
    for name in run.methods:
        records = content["tuning"][name]
        assert [record["trial"] for record in records] == [0, 1]
        best = min(records, key=lambda record: record["score"])
        assert [record["chosen"] for record in records].count(True) == 1
        assert best["chosen"]
        assert all(r["gradient_evaluations"] <= 24 for r in records)
        first, second = (record["compile_seconds"] for record in records)
        assert second < 0.1 * first < records[0]["seconds"]  # one program for both
        config = content["recipe"]["baselines"][name]
        assert config == json.loads(json.dumps(best["config"]))
    assert (run.output_dir / "report.html").is_file()


@pytest.mark.slow
def test_a_tuned_run_repeats_no_trial(tuned, capsys):
    run, content = tuned
    marks = {p: p.stat().st_mtime_ns for p in run.output_dir.rglob("*.stage.json")}
    assert len(marks) >= 2 * 2
    again = execute.execute(run)
    # As many stages as were planned.
    assert f"stage {len(marks)} of {len(marks)}: report" in capsys.readouterr().err
    assert again["tuning"] == content["tuning"]
    assert marks == {
        p: p.stat().st_mtime_ns for p in run.output_dir.rglob("*.stage.json")
    }


def test_tuning_needs_models_that_are_trained_here(tmp_path):
    domain = LanguageDomain.on(TINY, fictitious_people(0, 6, 1))
    given = domain.variant(dataclasses.replace(TINY, model="given", tune=2))
    with pytest.raises(ValueError, match="--tune needs models"):
        given.validation(tmp_path)


@pytest.fixture(scope="module")
def domain():
    """What methods are given, and an untrained model."""
    found = LanguageDomain.on(TINY, fictitious_people(0, 4, 1))
    return found, found.task.init_params(0)


@pytest.mark.parametrize("name", rest_slow(METHODS))
def test_every_method_takes_the_batches_that_are_made_for_it(domain, name):
    """One update, traced: parameters in, parameters and finite-sized metrics out."""
    target = domain[1]
    job = domain[0].unlearning(name, 0, target, 1.0)
    spent = job.num_updates * job.method.gradient_evaluations
    assert 0 < spent <= TINY.budget.gradient_evaluations
    state = jax.eval_shape(job.method.init, target)
    batch = next(job.stream())
    params, new_state, metrics = jax.eval_shape(job.method.update, target, state, batch)
    shapes = lambda tree: jax.tree.map(lambda x: (jnp.shape(x), x.dtype), tree)
    assert shapes(params) == shapes(target)
    assert shapes(new_state) == shapes(state)
    assert all(metric.shape == () for metric in metrics.values())
    assert "forget_loss" in metrics
    if METHODS[name].carries(TINY.config_of(name)).alternative:
        assert batch["forget"]["alternative"]["input_ids"].ndim == 3


def test_a_budget_below_one_update_is_named(domain):
    small = domain[0].variant(dataclasses.replace(TINY, budget=BudgetConfig(3)))
    with pytest.raises(ValueError, match="one update of ofmu takes 4"):
        small.unlearning("ofmu", 0, domain[1], 1.0)


def test_refusals_come_from_the_file_that_is_given(tmp_path):
    path = tmp_path / "no.txt"
    path.write_text("Never.\n\nNo way.\n")
    run = dataclasses.replace(TINY, refusals_file=path)
    assert rows.refusals_of(run)[0] == ("Never.", "No way.")
    assert len(rows.refusals_of(TINY)[0]) > 5
    path.write_text("\n")
    with pytest.raises(DataError, match="holds no refusal"):
        rows.refusals_of(run)


def test_configurations_of_an_earlier_run_are_taken_over(tmp_path, capsys):
    config = dataclasses.replace(TINY.baselines.npo, learning_rate=0.125)
    config = dataclasses.replace(
        config, loss=dataclasses.replace(config.loss, alpha=7.0)
    )
    earlier = dataclasses.replace(TINY, methods=("npo", "ofmu"), tune=2)
    earlier = earlier.with_method("npo", config)
    earlier = earlier.with_method(
        "ofmu", dataclasses.replace(TINY.ofmu, inner_steps=9, penalty_clip=None)
    )
    write_json(tmp_path / "config.json", execute.recipe(earlier))
    run = dataclasses.replace(TINY, methods=("npo", "ofmu"), tuned_from=tmp_path)
    taken = dataclasses.replace(earlier, tune=0, tuned_from=tmp_path)
    assert execute.configured(run) == taken
    assert capsys.readouterr() == ("", "")
    with pytest.raises(ValueError, match="no output folder"):
        tuning.tuned_elsewhere(run, tmp_path / "absent")
    with pytest.raises(ValueError, match="schema and version"):
        tuning.tuned_elsewhere(run, tmp_path / "config.json")
    both = dataclasses.replace(run, tune=2, tuned_from=tmp_path)
    with pytest.raises(ValueError, match=r"--tuned-from .* --tune"):
        execute.execute(both)


def test_configurations_of_another_version_are_refused(tmp_path):
    write_json(tmp_path / "config.json", execute.recipe(TINY))
    path = tmp_path / "config.json"
    values = json.loads(path.read_text())
    values["baselines"]["npo"]["loss"]["gone"] = 1.0
    path.write_text(json.dumps(values))
    with pytest.raises(ValueError, match="NpoConfig has no field 'gone'"):
        tuning.tuned_elsewhere(TINY, tmp_path)
    del values["baselines"]["npo"]
    path.write_text(json.dumps(values))
    with pytest.raises(ValueError, match="no configuration of npo"):
        tuning.tuned_elsewhere(TINY, tmp_path)


def earlier_run(folder, **changes):
    """The config.json of a tuned run of npo, changed."""
    run = dataclasses.replace(TINY, methods=("npo",), tune=2)
    config = dataclasses.replace(run.baselines.npo, learning_rate=0.125)
    values = execute.recipe(run.with_method("npo", config)) | changes
    write_json(folder / "config.json", values)
    return folder


def test_options_that_are_given_win_and_are_said(tmp_path, capsys):
    source = earlier_run(tmp_path)
    line = f"demo --methods npo --tuned-from {source} --npo.learning-rate 0.5"
    run = parse([*line.split(), "--npo.loss.beta=0.1"])
    assert run.explicit == ("npo.learning_rate", "npo.loss.beta")
    found = tuning.tuned_elsewhere(run, source).config_of("npo")
    assert (found.learning_rate, found.loss.beta) == (0.5, 0.1)
    told = " ".join(capsys.readouterr().err.split())
    assert "--npo.learning-rate 0.5 stays as given" in told and "has 0.125" in told
    assert "beta" not in told  # both say 0.1
    run = parse(line.split()[:-2])
    assert tuning.tuned_elsewhere(run, source).config_of("npo").learning_rate == 0.125
    assert parse(["demo", "--rmu.loss.no-compat"]).explicit == ("rmu.loss.compat",)


def test_methods_that_the_source_did_not_tune_are_named(tmp_path, capsys):
    run = dataclasses.replace(TINY, methods=("npo", "simnpo"))
    with pytest.raises(ValueError, match=r"simnpo \(it ran npo\); add --tuned-exc"):
        tuning.tuned_elsewhere(run, earlier_run(tmp_path))
    run = dataclasses.replace(run, tuned_except=("simnpo",))
    tuning.tuned_elsewhere(run, tmp_path)
    assert capsys.readouterr() == ("", "")
    tuning.tuned_elsewhere(run, earlier_run(tmp_path, tune=0))
    told = " ".join(capsys.readouterr().err.split())
    assert "tuned no npo: taken as configured there" in told


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1]", "names no methods"),
        ("[" * 100_000, "is no output folder"),
        ("\xff", "is no output folder"),
        ({"methods": "npo"}, "names no methods"),
        ({"methods": [3]}, r"its methods are \[3\]"),
        ({"baselines": ["npo"]}, "has no baselines"),
        ({"baselines": {"npo": [1, 2]}}, r"npo: Baseline.* is \[1, 2\]; it must be an"),
        ({"baselines": {"npo": {"learning_rate": "fast"}}}, "learning_rate = 'fast'"),
        ({"baselines": {"npo": {"learning_rate": True}}}, "learning_rate = True"),
        (
            {"baselines": {"npo": {"loss": {"beta": [0.1]}}}},
            r"beta = \[0.1\]; it must be a number",
        ),
        ({"baselines": {"npo": {"loss": 0.1}}}, "NpoConfig is 0.1; it must be an obj"),
    ],
)
def test_a_source_of_wrong_types_is_one_line(tmp_path, content, message):
    earlier_run(tmp_path, **(content if isinstance(content, dict) else {}))
    if isinstance(content, str):
        (tmp_path / "config.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(ValueError, match=message) as error:
        tuning.tuned_elsewhere(dataclasses.replace(TINY, methods=("npo",)), tmp_path)
    assert str(error.value).startswith(f"--tuned-from {tmp_path}")


@pytest.mark.parametrize(
    ("spared", "untuned"), [(5, False), (["npo"], True), ("npo", False), (None, False)]
)
def test_whom_an_earlier_run_spared_may_be_of_a_wrong_type(
    tmp_path, spared, untuned, capsys
):
    earlier_run(tmp_path, tune=0, tuned_from="elsewhere", tuned_except=spared)
    tuning.tuned_elsewhere(dataclasses.replace(TINY, methods=("npo",)), tmp_path)
    assert ("tuned no npo" in " ".join(capsys.readouterr().err.split())) is untuned


@pytest.mark.parametrize("content", ["[1]", "3", "{}", '{"schema": []}', "[" * 10**5])
def test_a_file_that_is_no_result_is_one_line(tmp_path, content):
    path = tmp_path / "results.json"
    path.write_text(content)
    with pytest.raises(ValueError, match="no file of published results: "):
        tuning.tuned_elsewhere(TINY, path)


@pytest.mark.parametrize("rate", [0.013, 0.05])
def test_rates_that_are_taken_over_hold_on_digits(tmp_path, rate):
    """Also one that is the default of ResNet-18 on CIFAR."""
    earlier = Cifar(methods=("salun",), tune=2)
    config = dataclasses.replace(earlier.method.salun, learning_rate=rate)
    write_json(
        tmp_path / "config.json", execute.recipe(earlier.with_method("salun", config))
    )
    run = Cifar(methods=("salun", "random_label"), tuned_from=tmp_path)
    run = dataclasses.replace(run, tuned_except=("random_label",))
    found = resolved(execute.configured(run)).method
    assert found.salun.learning_rate == rate
    assert found.random_label.learning_rate == 0.1
    given = resolved(parse("cifar --salun.learning-rate 0.013".split()))
    assert given.method.salun.learning_rate == 0.013


def test_published_results_are_a_source_of_configurations():
    run = dataclasses.replace(language.Tofu(), methods=("ofmu", "simnpo", "idk_dpo"))
    found = tuning.tuned_elsewhere(run, RESULTS / "tofu_forget01_tuning.json")
    trials = published.load(RESULTS / "tofu_forget01_tuning.json")["tuning"]
    for name in run.methods:
        (chosen,) = (trial for trial in trials[name] if trial["chosen"])
        config = dataclasses.asdict(found.config_of(name))  # may have newer fields
        assert config | chosen["config"] == config
    assert found.config_of("simnpo") != run.config_of("simnpo")
    kept = dataclasses.replace(run, tuned_except=("simnpo",))
    kept = tuning.tuned_elsewhere(kept, RESULTS / "tofu_forget01_tuning.json")
    assert kept.config_of("simnpo") == run.config_of("simnpo")
    assert kept.config_of("idk_dpo") == found.config_of("idk_dpo")


@pytest.mark.parametrize(
    ("run", "part"),
    [
        (dataclasses.replace(TINY, people=6, forget_people=5, tune=2), "--tune sets"),
        (Cifar(max_train=60, max_test=50, tune=2), "the 51 retain and 0"),
    ],
)
def test_too_few_rows_to_tune_on_are_refused_before_anything_is_trained(
    run, part, tmp_path, monkeypatch
):
    monkeypatch.setattr(Pipeline, "trained", lambda *_: pytest.fail("trained"))
    with pytest.raises(DataError, match="--tune sets") as refused:
        execute.execute(dataclasses.replace(run, output_dir=tmp_path / "out"))
    assert part in str(refused.value)


@pytest.mark.parametrize("options", [{"methods": ("npo",)}, {"tuned_from": None}])
def test_an_exception_without_effect_is_refused(options):
    run = dataclasses.replace(
        TINY, tuned_from=RESULTS, tuned_except=("gradient_ascent",)
    )
    with pytest.raises(ValueError, match="--tuned-except gradient_ascent leaves"):
        check_run(dataclasses.replace(run, **options))
