"""The command from end to end, small: stages, resumption, report, refusals."""

import dataclasses
import json
import pathlib
import re
import shutil

import numpy as np
import pytest
import recorders
import schemas
import transformers
from huggingface_hub import ModelCard

import ofmu_jax
from experiments.config.language import (
    BudgetConfig,
    Demo,
    EvalConfig,
    ModelConfig,
    OfmuConfig,
    Tofu,
    TrainConfig,
)
from experiments.deletion import check
from experiments.deletion import record as deletion
from experiments.deletion.quotes import holds, quotes
from experiments.domains.base import Model
from experiments.domains.language.data import (
    load_data,
    validation_request,
    with_general_knowledge,
)
from experiments.domains.language.goals import GOALS
from experiments.pipeline.execute import execute, show, status
from experiments.report import content, glossary
from experiments.report.words import card
from experiments.run import main, parse
from experiments.stages.trackers import registry
from ofmu_jax.data.language import fictitious
from ofmu_jax.data.language.records import QA, UnlearningData
from ofmu_jax.methods.language.ofmu import paper_setting

TINY = Demo(
    seeds=(0, 1),
    people=6,
    forget_people=1,
    model_size=ModelConfig(32, 64, 2, 2, 1, 2048),
    train=TrainConfig(epochs=3, batch_size=16),
    budget=BudgetConfig(gradient_evaluations=60, batch_size=8, checks=3),
    evaluation=EvalConfig(batch_size=32, max_new_tokens=8, bootstrap=50),
    ofmu=OfmuConfig(beta=0.0),  # compiles in half the time
)
DONE = (0, 3)  # 3: so small a model has nothing to forget


@pytest.fixture(scope="module")
def recorded():
    """The trackers that were told of `finished`."""
    return []


@pytest.fixture(scope="module")
def finished(tmp_path_factory, recorded):
    """A finished tiny run: its configuration and the content of its report."""
    run = dataclasses.replace(TINY, output_dir=tmp_path_factory.mktemp("run") / "out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.TRACKERS, "wandb", recorders.kind(recorded))
        return run, execute(dataclasses.replace(run, tracker=("wandb",)))


def marks(folder: pathlib.Path) -> dict[str, int]:
    return {
        path.relative_to(folder).as_posix(): path.stat().st_mtime_ns
        for path in folder.rglob("*.stage.json")
    }


def test_leaves_everything_that_is_promised(finished):
    run, content = finished
    out = run.output_dir
    for name in ("report.json", "report.html", "config.json"):
        assert (out / name).is_file()
    assert len(content["models"]) == 2 * (2 + 3)
    for row in content["models"]:
        folder = out / row["method"] / f"seed{row['seed']}"
        lines = (folder / "training/metrics.jsonl").read_text().splitlines()
        assert json.loads(lines[0])["update"] == 1
        assert list((folder / "training/events").glob("events.*"))
        assert (folder / "training/checkpoint").is_dir()
        assert (folder / "evaluation/evaluation.json").is_file()
        assert (out / row["export"] / "model.safetensors").is_file()
        assert row["metrics"]["model_utility"] >= 0
        tokenizer = transformers.AutoTokenizer.from_pretrained(out / row["export"])
        assert tokenizer.decode(tokenizer("Where?")["input_ids"][1:]) == "Where?"
    saved = json.loads((out / "report.json").read_text())
    assert {row["method"] for row in saved["summary"]} == {
        "target",
        "retrained",
        "ofmu",
        "gradient_ascent",
        "grad_diff",
    }
    ofmu = next(row for row in content["models"] if row["method"] == "ofmu")
    names = {"phi", "forget_loss", "retain_loss", "cosine", "phi_grad_norm", "rho"}
    assert names <= ofmu["trajectory"][1].keys()


def test_files_follow_their_schemas_and_cards_quote_no_row(finished):
    run, content = finished
    found = schemas.check(run.output_dir)
    assert found == {"config.json": 1, "report.json": 1, "deletion.json": 2 * 3}
    known = quotes(map(dataclasses.asdict, load_data(run)[0].forget))
    assert len(known) > 24 and holds(f"So: {min(known)} …", known)
    for row in content["models"]:
        card = ModelCard.load(run.output_dir / row["export"] / "README.md")
        assert not holds(card.content, known)
        assert {r.metric_type: r.metric_value for r in card.data.eval_results} == {
            name: value
            for name, value in row["metrics"].items()
            if not glossary.metric(name).minor and name != "overall_gap"
        }
        assert ("deletion.json" in card.text) == (row["role"] == "unlearned")


def test_the_run_as_rows(finished):
    run, content = finished
    loaded = ofmu_jax.load_run(run.output_dir)
    of = lambda rows, **cells: [r for r in rows if cells.items() <= r.items()]
    for model in content["models"]:
        who = {name: model[name] for name in ("role", "method", "seed")}
        seed, name = model["seed"], "forget_Q_A_Prob"
        (row,) = of(loaded.metrics, **who, metric=name)
        assert row["value"] == model["metrics"][name]
        assert [row["low"], row["high"]] == model["intervals"][name]
        (best,) = of(loaded.metrics, role="retrained", metric=name, seed=seed)
        assert row["yardstick"] == best["value"]
        values = [r["value"] for r in of(loaded.rows, **who, metric=name)]
        assert np.mean(values) == pytest.approx(row["value"])
        assert len(of(loaded.answers, **who, set="forget")) == len(values) == 8
        steps = [r["update"] for r in of(loaded.trajectories, **who)]
        assert steps == list(range(steps[0], steps[-1] + 1))
        assert steps[-1] == model["outer_steps"]
    ofmu = of(loaded.trajectories, method="ofmu", seed=1)
    assert ofmu[0].keys() >= {"eval_forget_nll", "gradient_evaluations"}
    assert ofmu[1].keys() >= {"phi", "cosine", "gradient_evaluations"}
    assert len({*map(frozenset, loaded.metrics)}) == 1  # one set of columns


def test_rows_in_pandas(finished):
    pandas = pytest.importorskip("pandas")
    run, content = finished
    frame = pandas.DataFrame(ofmu_jax.load_run(run.output_dir).metrics)
    means = frame[frame.metric == "model_utility"].groupby("method").value.mean()
    same = [m["metrics"] for m in content["models"] if m["method"] == "ofmu"]
    assert means["ofmu"] == pytest.approx(np.mean([m["model_utility"] for m in same]))


@pytest.mark.parametrize(
    ("remove", "message"),
    [
        ("report.json", "has no report.json, so no run was finished there; run it ag"),
        ("ofmu/seed1/evaluation/evaluation.json", "ofmu/seed1/.* is missing or cannot"),
    ],
)
def test_what_is_missing_of_a_run_is_named(finished, tmp_path, remove, message):
    run, _ = finished
    out = shutil.copytree(
        run.output_dir, tmp_path / "out", ignore=shutil.ignore_patterns("hf", "ch*")
    )
    (out / remove).unlink()
    with pytest.raises(ValueError, match=message):
        ofmu_jax.load_run(out)
    with pytest.raises(ValueError, match=r"no folder .*nowhere; give a run's --outp"):
        ofmu_jax.load_run(tmp_path / "nowhere")


def test_trackers_are_told_of_every_model_and_of_no_row(finished, recorded):
    run, content = finished
    for row in content["models"]:
        tags = {"role": row["role"], "method": row["method"], "seed": str(row["seed"])}
        training, evaluation = (x for x in recorded if x.about.tags == tags)
        assert training.calls[0][:2] == ("log", 1)
        assert evaluation.calls[0][0] == "evaluated"
        told = evaluation.calls[0][1]
        assert told["forget_Q_A_Prob"] == row["metrics"]["forget_Q_A_Prob"]
        assert told["gradient_evaluations"] == row["gradient_evaluations"]
        assert training.about.config["budget"]["gradient_evaluations"] == 60
    ofmu = next(x for x in recorded if x.about.tags["method"] == "ofmu")
    assert ofmu.about.config["ofmu"]["beta"] == 0.0 and "npo" not in ofmu.about.config
    said = json.dumps([[*x.about, x.calls] for x in recorded], default=str)
    data = fictitious.fictitious_people(run.data_seed, run.people, run.forget_people)
    for row in data.full:
        assert row.question not in said and row.answer not in said


def test_general_knowledge_is_kept_and_not_set_aside_for_tuning():
    row = lambda name: QA(f"{name}?", name)
    data = UnlearningData(
        "x",
        forget=(row("d"),),
        retain=(row("a"), row("b")),
        full=(row("a"), row("b"), row("d")),
        real_authors=(row("r"),),
        world_facts=(row("w"),),
    )
    names = lambda rows: "".join(row.answer for row in rows)
    more = with_general_knowledge(data)
    assert (names(more.retain), names(more.full)) == ("rwab", "rwabd")
    assert names(validation_request(more).forget) == "b"


def test_methods_get_the_same_budget_and_none_exceeds_it(finished):
    run, content = finished
    budget = run.budget.gradient_evaluations
    for row in content["models"]:
        if row["role"] == "unlearned":
            assert 0 < row["gradient_evaluations"] <= budget


def test_run_again_redoes_nothing_and_reports_the_same(finished, capsys):
    run, content = finished
    before = marks(run.output_dir)
    again = execute(run)
    assert marks(run.output_dir) == before
    (line,) = (x for x in capsys.readouterr().err.splitlines() if ": report" in x)
    place = re.search(r"stage (\d+) of (\d+)", line)
    assert place and place[1] == place[2] == str(len(before))
    key = lambda row: (row["method"], row["seed"])
    for old, new in zip(content["models"], again["models"], strict=True):
        assert key(old) == key(new)
        assert old["metrics"] == new["metrics"]


def test_record_and_report_say_the_same_of_what_came_of_it(finished, capsys):
    run, content = finished
    for row in content["models"]:
        if row["role"] != "unlearned":
            continue
        record = run.output_dir / row["export"] / "deletion.json"
        outcome = json.loads(record.read_text())["outcome"]
        assert {name: outcome[name] for name in row["verdict"]} == row["verdict"]
        assert outcome["forget_target_met"] == row["forget_target_met"]
        assert outcome["broke_off"] is False
    # In the last lines on stdout, method by method, in the words of the page.
    show(run.output_dir / "report.html", content)
    lines = capsys.readouterr().out.splitlines()
    verdicts = content["verdicts"]
    assert lines[-1 - len(verdicts)].startswith("Report: ")
    for line, verdict in zip(lines[-len(verdicts) :], verdicts, strict=True):
        words = f"{verdict['forgot']['word']} · {verdict['kept']['word']}"
        assert f": {words}" in line
        assert card(verdict, content)["sentences"][0] in line


@pytest.mark.slow
def test_a_target_that_never_learned_has_nothing_to_forget(tmp_path, capsys):
    """One epoch at no rate: the target is as it began, which is the reference's end."""
    still = dataclasses.replace(TINY.train, epochs=1, learning_rate=1e-9)
    run = dataclasses.replace(
        TINY,
        seeds=(0,),
        methods=("grad_diff",),
        train=still,
        export=False,
        output_dir=tmp_path,
    )
    content = execute(run)
    assert capsys.readouterr().out.startswith("Nothing to forget: the probability")
    assert content["claims"] == [] and status(content) == 3
    saved = json.loads((tmp_path / "report.json").read_text())
    assert saved["nothing_to_forget"]["target"] < 0.02 and saved["claims"] == []


@pytest.mark.slow
def test_other_settings_redo_only_what_depends_on_them(finished, tmp_path):
    run, _ = finished
    before = marks(run.output_dir)
    config = dataclasses.replace(run.config_of("grad_diff"), learning_rate=2e-4)
    execute(dataclasses.replace(run, seeds=(0,)).with_method("grad_diff", config))
    after = marks(run.output_dir)
    redone = {name for name in before if before[name] != after[name]}
    assert redone == {
        f"grad_diff/seed0/{part}.stage.json"
        for part in ("training", "evaluation", "hf")
    }


def test_command_line_reaches_the_configuration():
    run = parse(
        "tofu --split forget05 --seeds 3 4 --methods ofmu npo --ofmu.inner-steps 7 "
        "--output-dir x --paper".split()
    )
    assert isinstance(run, Tofu)
    assert (run.split, run.seeds, run.methods) == ("forget05", (3, 4), ("ofmu", "npo"))
    assert run.ofmu.inner_steps == 7
    assert run.paper
    assert parse([]) == Demo()
    assert parse(["cifar", "--forget", "random:0.1"]).forget == "random:0.1"
    assert parse(["--people", "8"]) == Demo(people=8)
    literal = paper_setting(run.ofmu)
    assert (literal.base, literal.penalty_gradient) == ("outer", "exact")
    assert (literal.beta, literal.rho) == (0.1, 1e-2)  # off in the recipe


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tofu", "--split", "forget02"], "forget02"),
        (["tofu", "--spilt", "forget01"], "--spilt"),
        (["demo", "--seeds", "one"], "one"),
        (["unlearn"], "unlearn"),
    ],
)
def test_wrong_options_are_named(arguments, message, capsys):
    with pytest.raises(SystemExit) as status:
        parse(arguments)
    assert status.value.code == 2
    assert message in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demo", "--seeds", "1", "1"], "--seeds names one twice: 1 1"),
        (["demo", "--forget-people", "40"], "40 of 40 people to forget"),
        (["request"], "request needs --model"),
        (["demo", "--retain-model", "{tmp}"], "give --model"),
        (["tofu", "--data-dir", "{tmp}/nowhere"], "nowhere"),
        (["demo", "--model", "{tmp}/nowhere"], "there is no model folder"),
        (["demo", "--model", "{tmp}"], "has no config.json"),
        (["cifar", "--forget", "class:77"], "77"),
    ],
)
def test_bad_input_ends_with_its_reason(arguments, message, tmp_path, capsys):
    arguments = [part.format(tmp=tmp_path) for part in arguments]
    assert main([*arguments, "--output-dir", str(tmp_path / "out")]) == 2
    output = " ".join(capsys.readouterr().err.split())
    assert message in output.replace("\n", " ")


def test_a_key_that_can_be_guessed_is_refused_before_anything_is_trained(tmp_path):
    (tmp_path / "deletion.key").write_text("ab\n")
    with pytest.raises(ValueError, match="has 2 bytes, which can be guessed"):
        execute(dataclasses.replace(TINY, output_dir=tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["deletion.key"]


@pytest.mark.slow
def test_a_deletion_request_on_a_given_model(finished, tmp_path, capsys):
    run, _ = finished
    shutil.copytree(run.output_dir / "target/seed0/hf", tmp_path / "model")
    data = fictitious.fictitious_people(run.data_seed, run.people, run.forget_people)
    for name in ("forget", "retain", "holdout"):
        rows = getattr(data, name)
        lines = [json.dumps({"question": r.question, "answer": r.answer}) for r in rows]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    command = [
        "request",
        *("--model", str(tmp_path / "model")),
        *("--forget-file", str(tmp_path / "forget.jsonl")),
        *("--retain-file", str(tmp_path / "retain.jsonl")),
        *("--holdout-file", str(tmp_path / "holdout.jsonl")),
        *("--methods", "ofmu", "--seeds", "0"),
        *("--budget.gradient-evaluations", "30"),
        *("--evaluation.max-rows", "8", "--evaluation.max-new-tokens", "4"),
        *("--output-dir", str(tmp_path / "out")),
    ]
    assert main(command) in DONE
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert [row["method"] for row in report["models"]] == ["target", "ofmu"]
    missing = " ".join(report["models"][1]["missing"])
    assert "no evaluation of a retrained reference" in missing
    assert (tmp_path / "out/ofmu/seed0/hf/model.safetensors").is_file()

    # Nothing but the two files: it works, and says what it goes by.
    alone = command.copy()
    del alone[alone.index("--holdout-file") : alone.index("--holdout-file") + 2]
    alone[-1] = str(tmp_path / "alone")
    assert main(alone) in DONE
    output = " ".join(capsys.readouterr().err.split())
    assert "that of answers to other questions" in output
    assert (tmp_path / "alone/ofmu/seed0/hf/model.safetensors").is_file()
    # A model in the output folder would be written over, or moved.
    kept = (tmp_path / "model/config.json").read_bytes()
    for folder in ("model", "."):
        alone[-1] = str(tmp_path / folder)
        assert main(alone) == 2
        assert "lies in --output-dir" in " ".join(capsys.readouterr().err.split())
    assert (tmp_path / "model/config.json").read_bytes() == kept

    # Another model in the same folder is another run, and a record names the one read.
    done = marks(tmp_path / "out")
    assert main(command) in DONE and marks(tmp_path / "out") == done
    weights = tmp_path / "model/model.safetensors"
    shutil.copy(run.output_dir / "target/seed1/hf/model.safetensors", weights)
    assert main(command) in DONE
    again = marks(tmp_path / "out")
    assert again.keys() == done.keys()
    assert all(again[name] != done[name] for name in done if "ofmu" in name)
    record = json.loads((tmp_path / "out/ofmu/seed0/hf/deletion.json").read_text())
    assert record["base"]["files"] == deletion.weight_files(tmp_path / "model")

    broken = tmp_path / "forget.jsonl"
    broken.write_text(broken.read_text() + '\n{"question": "Who?"}\n')
    assert main(command) == 2
    output = " ".join(capsys.readouterr().err.split())
    number = len(data.forget) + 1
    assert f"row {number}" in output
    assert "answer" in output


def test_the_evidence_holds_and_a_changed_metric_is_found(finished, tmp_path):
    """Even where the record is sealed again: the exported model is scored anew."""
    source, out = finished[0].output_dir, tmp_path / "out"
    for name in ("target", "retrained", "ofmu", "grad_diff"):
        shutil.copytree(source / name / "seed0/hf", out / name / "seed0/hf")
    shutil.copy(source / deletion.KEY, out)
    path = out / "ofmu/seed0/hf" / deletion.RECORD
    record = json.loads(path.read_text())
    record["evaluation"]["metrics"]["retain_Q_A_Prob"] += 0.01
    record["seal"] = deletion.seal(deletion.key_of(out), record)
    path.write_text(json.dumps(record))
    checks = list(check.verify(check.Verify(out)))
    broken = [(c.model, c.name, c.detail) for c in checks if not c.holds]
    assert [line[:2] for line in broken] == [("ofmu/seed0", "metrics")]
    assert "retain_Q_A_Prob is" in broken[0][2]
    assert len(checks) == 20


def test_claims_hold_or_not_by_the_numbers():
    def model(role, name, forget, retain):
        evaluation = type("E", (), {})()
        evaluation.metrics = {
            "forget_heldout_Q_A_Prob": forget,
            "retain_heldout_Q_A_Prob": retain,
        }
        return Model(role, name, 0, None, "", {}, pathlib.Path(), None, evaluation)

    models = [
        model("target", "target", 0.9, 0.9),
        model("retrained", "retrained", 0.3, 0.9),
        model("unlearned", "ofmu", 0.35, 0.85),
        model("unlearned", "grad_diff", 0.0, 0.5),
    ]
    found = list(content.claims(GOALS, models))
    assert [claim["holds"] for claim in found] == [True, True, False, False]
    assert found[0]["evidence"] == "retain_heldout_Q_A_Prob: 0.850 of 0.900, 94.4%"


def test_trajectory_thins_updates_but_keeps_checks():
    record = {
        "gradient_evaluations_per_update": 3.0,
        "metrics": [{"update": i, "phi": float(i)} for i in range(1, 11)],
        "checks": [{"update": 0, "forget_nll": 0.5}, {"update": 10, "forget_nll": 2.0}],
    }
    rows = content.trajectory(record, most=5)
    assert [row["step"] for row in rows] == [0, 1, 3, 5, 7, 9, 10]
    assert rows[0] == {"step": 0, "gradient_evaluations": 0.0, "eval_forget_nll": 0.5}
    assert rows[-1]["gradient_evaluations"] == 30.0
    assert np.isclose(rows[2]["phi"], 3.0)
