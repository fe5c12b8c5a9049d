"""Attacks in a run and on a folder, small: stages, resumption, report, record."""

import dataclasses
import json

import numpy as np
import pytest
import schemas

from experiments import attack
from experiments.config.language import (
    AttackConfig,
    BudgetConfig,
    Demo,
    EvalConfig,
    ModelConfig,
    TrainConfig,
)
from experiments.config.stored import run_from_json
from experiments.deletion.record import name_of, read_record
from experiments.deletion.summary import happened
from experiments.domains.attack_report import attack_report
from experiments.domains.attacks import Attacks
from experiments.domains.base import Model
from experiments.domains.language import refuse
from experiments.domains.language.data import load_data
from experiments.pipeline import attacking
from experiments.pipeline.execute import execute
from experiments.report import attacks as words
from experiments.stages.files import to_json
from ofmu_jax.attacks.base import Found, Rows
from ofmu_jax.attacks.budget import Budget
from ofmu_jax.attacks.registry import ATTACKS, chosen
from ofmu_jax.data.language.records import QA
from ofmu_jax.evals.language.scores import EvaluationError

NAMES = ("relearn", "relearn-part", "int4", "mia-loss")
RUN = Demo(
    seeds=(0,),
    methods=("gradient_ascent",),
    people=6,
    forget_people=1,
    model_size=ModelConfig(32, 64, 2, 2, 1, 2048),
    train=TrainConfig(epochs=3, batch_size=16),
    budget=BudgetConfig(gradient_evaluations=20, batch_size=8, checks=2),
    evaluation=EvalConfig(batch_size=32, max_new_tokens=4, bootstrap=20),
    attacks=NAMES,
    attack=AttackConfig(curve_steps=(1, 2), curve_rate=1e-3, relearn_rate=1e-3),
)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    run = dataclasses.replace(RUN, output_dir=tmp_path_factory.mktemp("run") / "out")
    return run, execute(run)["attacks"]


def marks(folder):
    return {p: p.stat().st_mtime_ns for p in folder.rglob("attacks/*.stage.json")}


@pytest.mark.slow
def test_every_model_is_attacked_and_told_of(done):
    run, found = done
    assert tuple(found["attacks"]) == NAMES and len(marks(run.output_dir)) == 3 * 4
    rows = {row["attack"]: row for row in found["rows"]}
    assert rows.keys() == set(NAMES) and found["missing"] == []
    for row in rows.values():
        assert row["method"] == "gradient_ascent" and row["seeds"] == 1
        assert None not in (row["reference"], row["target"], row["difference"])
    assert "after 1, 2 steps, lr 0.001" in found["attacks"]["relearn-part"]["budget"]
    curves = [c for c in found["curves"] if c["attack"] == "relearn-part"]
    roles = {c["role"]: c["at"] for c in curves}
    assert roles == {k: [0, 1, 2] for k in ("retrained", "target", "unlearned")}
    page = (run.output_dir / "report.html").read_text()
    assert "<h2>Attacks</h2>" in page and "Relearning: some of the facts" in page


@pytest.mark.slow
def test_the_record_has_the_short_form(done):
    run, found = done
    record = read_record(run.output_dir / "gradient_ascent/seed0/hf/deletion.json")
    told = record["attacks"]
    assert {row["attack"]: row["word"] for row in told["found"]} == {
        row["attack"]: row["word"] for row in found["rows"]
    }
    assert told["budgets"].keys() == set(NAMES)
    assert f"Attacks: {told['text']}." in happened(record)
    assert schemas.check(run.output_dir)["deletion.json"] == 1
    card = (run.output_dir / "gradient_ascent/seed0/hf/README.md").read_text()
    assert f"Attacks: {told['text']}." in card and "No attack was tried" not in card


@pytest.mark.slow
def test_a_budget_redoes_its_own_attack_alone(done):
    run, _ = done
    before = marks(run.output_dir)
    execute(run)
    assert marks(run.output_dir) == before
    execute(dataclasses.replace(run, attack=AttackConfig(relearn_rate=2e-3)))
    changed = {p.name for p, at in marks(run.output_dir).items() if at != before[p]}
    names = {"relearn.stage.json", "relearn-part.stage.json"}
    assert changed == names  # whose curve has its own budget again
    execute(run)


@pytest.mark.slow
def test_a_folder_tells_what_the_run_told(done, tmp_path):
    """The export with its yardsticks; rounding and rows are the same."""
    run, found = done
    data = load_data(run)[0]
    for name, rows in (("forget", data.forget_eval), ("holdout", data.holdout)):
        lines = [json.dumps(_json(row)) for row in rows]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    folder = lambda name: str(run.output_dir / name / "seed0/hf")
    status = attack.main(
        [
            folder("gradient_ascent"),
            *("--retain-model", folder("retrained")),
            *("--target-model", folder("target")),
            *("--forget-file", str(tmp_path / "forget.jsonl")),
            *("--holdout-file", str(tmp_path / "holdout.jsonl")),
            *("--output-dir", str(tmp_path / "out")),
            *("--attacks", "int4", "mia-loss", "relearn-retain"),
        ]
    )
    assert status == 0
    ours = json.loads((tmp_path / "out/attacks.json").read_text())
    theirs = {row["attack"]: row for row in found["rows"]}
    assert [row["attack"] for row in ours["rows"]] == ["int4", "mia-loss"]
    for row in ours["rows"]:
        for key in ("after", "reference", "target", "difference"):
            np.testing.assert_allclose(row[key], theirs[row["attack"]][key], atol=1e-5)
    assert {gap["why"] for gap in ours["missing"]} == {"it needs retain rows"}


def _json(row):
    fields = {k: v for k, v in dataclasses.asdict(row).items() if v}
    fields["perturbed_answer"] = fields.pop("perturbed_answers")
    return fields


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"attacks": ("nonsense",)}, "--attacks nonsense is unknown; choose all or"),
        ({"mesh": "data=1"}, "which --mesh does not have"),
        ({"attack": AttackConfig(curve_steps=(5, 5))}, "--attack.curve-steps 5 5 must"),
        ({"attack": AttackConfig(lora_samples=())}, "--attack.lora-samples is empty"),
        ({"attack": AttackConfig(teach_rates=(-1.0,))}, "--attack.teach-rates is -1.0"),
        ({"attack": AttackConfig(agreement=" ")}, "--attack.agreement is empty"),
    ],
)
def test_bad_options_are_refused_first(fields, message):
    run = dataclasses.replace(RUN, **fields)
    with pytest.raises(ValueError, match=message):
        run.check()
        refuse.check_options(run)


def test_the_configuration_goes_into_files_and_comes_back(tmp_path):
    """A record names files without their places."""
    config = AttackConfig(teach_rates=(1e-6, 1e-5), text_file=tmp_path / "plain.txt")
    run = dataclasses.replace(RUN, attack=config)
    assert run_from_json({"command": "demo", **to_json(run)}) == run
    assert name_of(config)["text_file"] == "plain.txt"
    assert name_of(config)["teach_rates"] == (1e-6, 1e-5)


def test_all_are_all_and_every_budget_is_told():
    assert chosen(("all",)) == ATTACKS and list(chosen(("nf4", "relearn"))) == [
        "relearn",
        "nf4",
    ]
    for name, entry in ATTACKS.items():
        assert entry.budget_text(Budget()) and entry.title and entry.unit, name
        assert len(entry.source) == 10 and entry.source[4] == ".", name


def model(role, name, value, seed=0):
    """What it is attacked with finds the same of all four rows."""
    found = Found((1.0, 2.0), np.full((2, 4), value), np.zeros(4), said="rank 8")
    return Model(role, name, seed, None, "", {}, None, attacked={"lora-retain": found})


def report(*values):
    rows = Rows((QA("a?", "A."),), (QA("a?", "A."),))
    names = ("lora-retain", "prune")
    attacks = Attacks(chosen(names), None, rows, Budget())
    models = [model("unlearned", "npo", value, i) for i, value in enumerate(values)]
    missing = dataclasses.replace(models[0], not_attacked={"prune": "it broke"})
    target = model("target", "target", 0.5)
    target.attacked["lora-retain"].before[:] = 1.0
    yardsticks = model("retrained", "retrained", 0.0), target
    return attack_report(attacks, [missing, *models[1:], *yardsticks])


@pytest.mark.parametrize(
    "values, text",
    [
        ((0.5, 0.5), "NPO: recovered by lora-retain 50%."),
        (
            (0.0, 0.02),
            "NPO: no recovery under these attacks at this budget (not run: prune).",
        ),
        ((0.0, 0.6), "NPO: cannot tell: lora-retain 30%."),
    ],
)
def test_a_verdict_never_says_more_than_was_shown(values, text):
    found = report(*values)
    assert words.verdict_lines(found) == [text]
    assert found["missing"][0]["why"] == "it broke"
    heads, first, second = words.attack_table(found)
    assert heads == ["Attack", "NPO"] and second == ["prune", "—"]
    assert first[1].startswith(f"{np.mean(values):.0%} [")
    section = words.section(found)
    assert section is not None and "removed" not in json.dumps(section)
    assert section["details"][0]["said"] == "at samples 1; rank 8"


ROW = QA("a?", "A.")


class Silent:
    """Progress that nobody looks at."""

    def add_task(self, *_, **__):
        return 0

    update = add_task


def test_only_what_compares_is_done_again_for_another_yardstick(tmp_path):
    """And what broke says why, and is tried again."""
    ran = []

    def attack(name, **more):
        def run(model, rows, budget, progress):
            ran.append(name)
            if name == "broken":
                raise EvaluationError("it diverged.")
            return Found((0.0,), np.ones((1, 2)))

        return dataclasses.replace(ATTACKS["int8"], run=run, **more)

    beside = ("reference",)
    entries = {"alone": attack("alone"), "compares": attack("compares", beside=beside)}
    entries["broken"] = attack("broken")
    subject = dataclasses.make_dataclass("Subject", ["max_new_tokens"])(4)
    attacks = Attacks(entries, subject, Rows((ROW,), (ROW,)), Budget())
    ours = dataclasses.replace(model("unlearned", "npo", 0.0), folder=tmp_path)
    ours = dataclasses.replace(ours, params={}, identity="ours")
    for reference, expected in (
        ("a", ["alone", "compares", "broken"]),
        ("a", ["broken"]),
        ("b", ["compares", "broken"]),
    ):
        other = dataclasses.replace(ours, role="retrained", identity=reference)
        again = attacking.attacked(
            ours, None, other, attacks, lambda stage, kind: stage, Silent()
        )
        assert ran == expected and again.attacked.keys() == {"alone", "compares"}
        assert again.not_attacked == {"broken": "it diverged"}
        ran.clear()
        # Parameters are read again for what is to be done again.
        assert not attacking.all_done(ours, None, other, attacks)
        del entries["broken"]
        bare = dataclasses.replace(ours, params=None)
        assert attacking.all_done(bare, None, other, attacks)
        stranger = dataclasses.replace(other, identity="c")
        assert not attacking.all_done(bare, None, stranger, attacks)
        entries["broken"] = attack("broken")


def test_attacks_keep_what_is_of_the_same_models(tmp_path):
    """Of a model for all attacks on it, of its yardsticks for all models of a seed."""
    seen = []

    def run(model, rows, budget, progress):
        seen.append((model.own, model.common))
        return Found((0.0,), np.ones((1, 2)))

    entries = {name: dataclasses.replace(ATTACKS["int8"], run=run) for name in "ab"}
    subject = dataclasses.make_dataclass("Subject", ["max_new_tokens"])(4)
    attacks = Attacks(entries, subject, Rows((ROW,), (ROW,)), Budget())
    yardsticks = [
        dataclasses.replace(model("retrained", "retrained", 0.0), identity=name)
        for name in ("seed 0", "seed 1")
    ]
    for name, reference in (("npo", 0), ("simnpo", 0), ("npo", 1)):
        ours = model("unlearned", name, 0.0, seed=reference)
        ours = dataclasses.replace(ours, folder=tmp_path / f"{name}{reference}")
        attacking.attacked(
            dataclasses.replace(ours, params={}, identity=name),
            None,
            yardsticks[reference],
            attacks,
            lambda stage, kind: stage,
            Silent(),
        )
    own, common = zip(*seen, strict=True)
    is_same = lambda kept: [[a is b for b in kept] for a in kept]
    pairs, seeds = np.arange(6) // 2, np.array([0, 0, 0, 0, 1, 1])
    np.testing.assert_array_equal(is_same(own), pairs[:, None] == pairs)
    np.testing.assert_array_equal(is_same(common), seeds[:, None] == seeds)


@pytest.mark.parametrize("field", ["scores", "before", "holdout"])
def test_scores_that_are_not_finite_are_no_scores(monkeypatch, field):
    found = Found((1.0,), np.ones((1, 2)), np.ones(2), np.ones((1, 2)))
    getattr(found, field).ravel()[-1] = np.nan
    broken = dataclasses.replace(ATTACKS["lens"], run=lambda *_: found)
    attacks = Attacks({"lens": broken}, None, Rows((), ()), Budget())
    with pytest.raises(EvaluationError, match="not finite; the model diverged"):
        attacks.run("lens", None, lambda share: None)


def test_what_was_found_is_what_is_read(tmp_path):
    found = Found((0.5,), np.eye(2)[:1], None, np.ones((1, 3)), "so", np.ones((1, 2)))
    attacking.save(tmp_path / "found.npz", found)
    again = attacking.load(tmp_path / "found.npz", "so")
    assert (again.at, again.before, again.said) == ((0.5,), None, "so")
    for name in ("scores", "holdout", "kinds"):
        np.testing.assert_array_equal(getattr(again, name), getattr(found, name))
