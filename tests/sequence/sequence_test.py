"""Requests one after another: lineages, their matrix, their chain of records."""

import contextlib
import dataclasses
import io
import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import schemas
from hubs import Hub

import ofmu_jax
from experiments.config.language import ModelConfig, Request
from experiments.config.sequence import Link, files_of, is_sequence, lineage
from experiments.deletion import check as verify
from experiments.deletion import record as deletion
from experiments.domains.language import handed_back
from experiments.domains.language.data import load_data
from experiments.domains.language.domain import LanguageDomain
from experiments.run import main, parse
from experiments.sequence import execute, page, scores
from experiments.shell.heartbeat import Stages
from experiments.stages.files import sha256, write_json
from experiments.stages.fit import STATE
from ofmu_jax.data.language.records import DataError
from ofmu_jax.training import checkpoint

ROWS = [
    [("Where was Ada born?", "In Lund."), ("Who is Ada?", "A writer.")],
    [("Where was Cy born?", "In Bari."), ("Who is Cy?", "A cook.")],
    [("Where was Di born?", "In Oslo.")],
]
STAY = [("Where is Rome?", "In Italy."), ("Who is Bo?", "A painter.")]
METHOD, SAID = "npo", "said.txt"


def write(path, pairs):
    path.parent.mkdir(exist_ok=True, parents=True)
    lines = (json.dumps({"question": q, "answer": a}) + "\n" for q, a in pairs)
    path.write_text("".join(lines))
    return path


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A folder with three requests, everything that there is, and a random model."""
    folder = tmp_path_factory.mktemp("given")
    files = [
        write(folder / f"asked/{n}.jsonl", r) for n, r in zip("abc", ROWS, strict=True)
    ]
    everything = [pair for rows in ROWS for pair in rows] + STAY
    write(folder / "all.jsonl", everything)
    run = Request(
        forget_file=files[0],
        retain_file=write(folder / "stay.jsonl", everything[2:]),
        model_size=ModelConfig(8, 16, 1, 1, 1, 400),
        max_length=64,
    )
    task = LanguageDomain.on(run, *load_data(run)).task
    handed_back.write(task, folder / "model", task.init_params(0))
    return folder


def words(given, out, *more):
    text = f"""request --model {given}/model --retain-file {given}/all.jsonl
        --output-dir {out} --methods {METHOD} --seeds 0 --max-length 64
        --budget.gradient-evaluations 12 --budget.batch-size 2 --budget.checks 1
        --budget.forget-target none --evaluation.max-new-tokens 2
        --evaluation.bootstrap 4 --evaluation.batch-size 8
        --npo.learning-rate 1e-2"""
    return [*text.split(), *map(str, more)]


@pytest.fixture(scope="module")
def made(given, tmp_path_factory):
    """The output folder of the three requests, with the state carried on."""
    out = tmp_path_factory.mktemp("made") / "out"
    command = words(given, out, "--forget-file", given / "asked", "--carry-state")
    with contextlib.redirect_stderr(io.StringIO()) as said:
        assert main(command) in (0, 3)  # random weights know nothing
    (out / SAID).write_text(said.getvalue())
    return out


def links_of(given, out):
    run = parse(words(given, out, "--forget-file", given / "asked", "--carry-state"))
    return lineage(run, METHOD, 0)


@pytest.fixture
def moved(made, tmp_path):
    """A copy, elsewhere, to be damaged."""
    shutil.copytree(made, tmp_path / "out")
    return tmp_path / "out"


def test_a_lineage_is_ordinary_runs(given, made):
    """The k-th starts from the export of the one before and keeps all but what was
    to be forgotten by then."""
    links = links_of(given, made)
    assert [link.run.model for link in links] == [
        f"{given}/model",
        f"{made}/npo/seed0/01-a/npo/seed0/hf",
        f"{made}/npo/seed0/02-b/npo/seed0/hf",
    ]
    for link, kept in zip(links, (5, 3, 2), strict=True):
        data, _ = load_data(link.run)
        assert len(data.retain) == kept
        assert [row.question for row in data.forget] == [
            question for question, _ in ROWS[link.number - 1]
        ]
        assert (link.export / "deletion.json").is_file()


def test_files_follow_their_schemas_and_each_card_is_of_its_model(given, made):
    found = schemas.check(made)
    each = {"config.json": 1 + 3, "report.json": 3, "deletion.json": 3}
    assert found == {**each, "sequence.json": 1}
    for link in links_of(given, made):  # and not of the models before as well
        text = (link.export / "README.md").read_text()
        assert text.count("## The deletion record") == 1
        names = ["model", *[METHOD] * link.number]
        assert f"\n# {', '.join(names[:-1])}, changed by {METHOD} to forget" in text
    with pytest.raises(ValueError, match="holds several requests; give the folder of"):
        ofmu_jax.load_run(made)


def test_one_file_is_the_run_that_it_was(given, tmp_path):
    file = given / "asked/a.jsonl"
    run = parse(words(given, tmp_path, "--forget-file", file))
    assert run.forget_file == file and files_of(run) == (file,)
    assert not run.forgotten_files and not run.carry_state
    record = deletion.choices_of(run)
    assert record["forget_file"] == "a.jsonl"  # a text, as ever
    with pytest.raises(DataError, match=r"also in the .*all.jsonl as row 1"):
        load_data(run)


def test_a_folder_of_files_in_any_format_or_of_one_data_set(tmp_path):
    for name in ("b.csv", "a.jsonl.gz", "c.parquet", "README.md"):
        (tmp_path / name).touch()
    run = Request(forget_file=tmp_path, model="m")
    found = [path.name for path in files_of(run)]
    assert is_sequence(run) and found == ["a.jsonl.gz", "b.csv", "c.parquet"]
    (tmp_path / "state.json").touch()  # what save_to_disk leaves
    assert not is_sequence(run) and files_of(run) == (tmp_path,)
    assert not is_sequence(Request(forget_file=pathlib.Path("hf:org/name:train")))


def test_the_matrix_is_what_each_request_was_scored(given, made):
    """On the diagonal the metrics of the requests' own evaluations."""
    found = json.loads((made / execute.NAME).read_text())
    assert found["requests"] == ["a.jsonl", "b.jsonl", "c.jsonl"]
    assert found["data"]["counts"] == {"1": 2, "2": 2, "3": 1, "kept": 2}
    assert found["retain_rows"] == [5, 3, 2]
    names = {
        "probability": "forget_Q_A_Prob",
        "exact_memorization": "exact_memorization",
        "extraction_strength": "extraction_strength",
    }
    kept = []
    for metric, name in names.items():
        matrix = page.matrix(found, METHOD, metric)
        assert (len(matrix), len(matrix[0])) == (4, 4)
        for link in links_of(given, made):
            k = link.number
            report = json.loads((link.run.output_dir / "report.json").read_text())
            rows = {row["role"]: row["metrics"] for row in report["models"]}
            before, after = matrix[k - 1][k - 1]["mean"], matrix[k][k - 1]["mean"]
            assert rows["target"][name] == pytest.approx(before, abs=1e-6)
            assert rows["unlearned"][name] == pytest.approx(after, abs=1e-6)
            if metric == "probability":
                kept.append(rows["unlearned"]["retain_Q_A_Prob"])
    last = page.matrix(found, METHOD, "probability")[-1][-1]["mean"]
    assert kept[-1] == pytest.approx(last, abs=1e-6)  # the last keeps what stays
    assert page.at_a_glance(found, METHOD)[1][0] == "2 b.jsonl"
    html = (made / page.NAME).read_text()
    assert "npo/seed0/03-c/report.html" in html and "after 3" in html


def test_each_record_names_the_one_before(given, made):
    links = links_of(given, made)
    records = [json.loads((x.export / "deletion.json").read_text()) for x in links]
    assert "parent" not in records[0]
    for link, record in zip(links, records[1:], strict=False):
        assert record["parent"] == {"sha256": sha256(link.export / "deletion.json")}
    assert len({record["forget"]["key_id"] for record in records}) == 1


def failed(out, **options):
    """(request, check) of what does not hold."""
    options = {"metrics": False} | options
    checks = list(verify.verify(verify.Verify(out, **options)))
    assert {check.model for check in checks} == {
        f"npo/seed0/{name}" for name in ("01-a", "02-b", "03-c")
    }
    return {(check.model[-4:], check.name) for check in checks if not check.holds}


def test_progress_is_that_of_all_requests(made):
    """One unlearning, two models to evaluate and two to export in each of three, and
    four models that are scored on all rows."""
    said = (made / SAID).read_text()
    lines = [line for line in said.splitlines() if " stage " in line]
    number = lambda line: int(line.partition(" stage ")[2].split()[0].strip(",:"))
    assert [number(line) for line in lines] == sorted(map(number, lines))
    assert all(" of 19" in line for line in lines) and number(lines[-1]) == 19
    assert "of 19, request 2 of 3: npo, seed 0" in said
    assert "note: npo, seed 0: request 3 of 3, " in said
    progress = Stages(disable=True)
    options = verify.Verify(made, metrics=False)
    assert all(check.holds for check in verify.verify(options, progress))
    assert progress.number == progress.planned == 3


def test_verify_walks_the_chain(made, moved):
    assert failed(made, metrics=True) == set()
    assert failed(moved) == set()  # of a folder that was moved as a whole


def test_the_last_request_alone_leads_back_to_the_first(given, moved):
    last = links_of(given, moved)[-1].run.output_dir
    read = lambda: list(verify.verify(verify.Verify(last, metrics=False)))
    (walked,) = [check for check in read() if check.name == "earlier requests"]
    assert walked.holds and walked.detail == "2, each named by SHA-256"
    links_of(given, moved)[0].export.joinpath("deletion.json").unlink()
    (walked,) = [check for check in read() if check.name == "earlier requests"]
    assert not walked.holds


def reseal(out, path, change):
    """Writes a record that its key vouches for, after a change."""
    record = json.loads(path.read_text())
    change(record)
    record["seal"] = deletion.seal(deletion.key_of(out), record)
    write_json(path, record)


def test_a_broken_link_is_found(given, moved):
    first, second, _ = (x.export / "deletion.json" for x in links_of(given, moved))
    reseal(moved, first, lambda record: record.update(created="2020-01-01"))
    assert failed(moved) == {("02-b", "earlier requests"), ("03-c", "earlier requests")}
    named = {"sha256": sha256(first)}
    reseal(moved, second, lambda record: record.update(parent=named))
    assert failed(moved) == {("03-c", "earlier requests")}
    reseal(moved, second, lambda record: record.pop("parent"))
    assert ("02-b", "earlier requests") in failed(moved)
    shutil.rmtree(second.parents[3])
    assert ("02-b", "record") in failed(moved)


def test_rows_that_come_back_are_found(given, moved):
    """A retain set with a row that was to be forgotten, sealed as it is."""
    last = links_of(given, moved)[-1]
    keep = [*STAY, ROWS[0][1]]
    write(moved / "keep.jsonl", keep)
    rows = [
        {**dataclasses.asdict(row), "perturbed_answers": []}
        for row in load_data(
            dataclasses.replace(
                last.run, retain_file=moved / "keep.jsonl", forgotten_files=()
            )
        )[0].retain
    ]
    key = deletion.key_of(moved)

    def change(record):
        record["retain"] = {"rows": 3, "set_hash": deletion.set_hash(key, rows)}
        record["run"]["forgotten_files"] = []

    reseal(moved, last.export / "deletion.json", change)
    own = verify.Verify(
        last.run.output_dir, metrics=False, retain_file=moved / "keep.jsonl"
    )
    found = {check.name: check for check in verify.verify(own)}
    assert found["retain set"].holds
    assert not found["earlier requests"].holds
    assert found["earlier requests"].detail.endswith("[3]")


def test_the_same_command_does_nothing_again_and_a_new_file_goes_on(
    given, moved, monkeypatch
):
    """And the model after the last request is pushed, as the command now says."""
    api = Hub()
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "hf_secret")
    monkeypatch.setattr("experiments.pipeline.hub.HfApi", lambda: api)
    monkeypatch.setattr(execute, "status", lambda found: 0)  # as if it had forgotten
    links = links_of(given, moved)
    before = {x.number: (x.export / "deletion.json").read_bytes() for x in links}
    marks = sorted(moved.rglob("*.stage.json"))
    times = {path: path.stat().st_mtime_ns for path in marks}
    asked = moved / "asked"
    shutil.copytree(given / "asked", asked)
    write(asked / "d.jsonl", STAY[:1])
    command = words(given, moved, "--forget-file", asked, "--carry-state")
    shutil.rmtree(links[-1].run.output_dir / "npo")  # as if it was killed before
    assert main([*command, "--push-to-hub", "forgotten"]) == 0
    (place,) = {pathlib.Path(o.path_or_fileobj).parent for o in api.sent[1]}
    assert place == moved / "npo/seed0/04-d/npo/seed0/hf" and len(api.made) == 2
    for link in links[:2]:
        assert (link.export / "deletion.json").read_bytes() == before[link.number]
    first = [p for p in marks if links[0].run.output_dir in p.parents]
    assert first and all(path.stat().st_mtime_ns == times[path] for path in first)
    found = json.loads((moved / execute.NAME).read_text())
    assert len(found["lineages"][0]["after"]) == len(found["requests"]) == 4
    assert found["data"]["counts"]["kept"] == 1


def test_the_state_is_carried_on(given, made):
    """Adam has counted the updates of all requests before: six each."""
    counts = []
    for link in links_of(given, made):
        folder = link.run.output_dir / METHOD / "seed0/training" / STATE
        metadata = checkpoint._checked(folder)[0]
        state = _restored(metadata)
        counts += [int(x) for x in jax.tree.leaves(state) if np.ndim(x) == 0][:1]
    assert counts == [6, 12, 18]


def _restored(folder):
    import orbax.checkpoint as ocp

    with ocp.StandardCheckpointer() as reader:
        return reader.restore(pathlib.Path(folder))


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (["--tune", "2"], "--tune 2 tunes one request"),
        (["--no-export"], "--no-export leaves nothing"),
        (["--base-model", "m"], "--base-model m trains a reference"),
        (["--carry-state", "--lora.rank", "2"], "--carry-state and --lora.rank"),
    ],
)
def test_what_several_requests_cannot_have(given, tmp_path, more, reason, capsys):
    files = sorted((given / "asked").iterdir())
    command = words(given, tmp_path / "out", "--forget-file", *files, *more)
    assert main(command) == 2
    assert reason in " ".join(capsys.readouterr().err.split())


def test_a_row_is_asked_to_be_forgotten_once(given, tmp_path, capsys):
    again = write(tmp_path / "again.jsonl", ROWS[0][:1])
    files = (given / "asked/a.jsonl", again)
    assert main(words(given, tmp_path / "out", "--forget-file", *files)) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert "again.jsonl, row 1: also in the earlier request" in error
    assert not list((tmp_path / "out").glob("npo"))


def test_an_empty_folder(given, tmp_path, capsys):
    (tmp_path / "none").mkdir()
    command = words(given, tmp_path / "out", "--forget-file", tmp_path / "none")
    assert main(command) == 2
    assert "put one file a request there" in " ".join(capsys.readouterr().err.split())


def test_status():
    row = lambda method, failed: {"method": method, "failed": failed}
    status = lambda *rows: execute.status({"lineages": rows})
    assert status(row("a", False), row("a", True), row("b", False)) == 0
    assert status(row("a", False), row("a", True)) == 3
    verdict = lambda word, failed=True: {
        "forgot": {"word": word},
        "failed": failed,
        "destroyed": False,
    }
    none, done = verdict("nothing to forget"), verdict("forgot", False)
    assert execute._failed([none, none]) and execute._failed([done, verdict("x")])
    assert not execute._failed([done, none])


def test_scores_of_a_sequence_on_paper():
    """Two seeds, one of which ended after the first of two requests."""
    scores = lambda a, b, kept: {
        name: {"probability": value}
        for name, value in (("1", a), ("2", b), ("kept", kept))
    }
    found = {
        "requests": ["a", "b"],
        "start": scores(0.8, 0.9, 1.0),
        "lineages": [
            {"method": "m", "after": [scores(0.1, 0.7, 0.9), scores(0.2, 0.1, 0.8)]},
            {"method": "m", "after": [scores(0.3, 0.5, 0.7)]},
        ],
    }
    matrix = page.matrix(found, "m", "probability")
    means = [[stat["mean"] for stat in row] for row in matrix]
    assert jnp.allclose(
        jnp.array(means), jnp.array([[0.8, 0.9, 1.0], [0.2, 0.6, 0.8], [0.2, 0.1, 0.8]])
    )
    assert [row[0]["n"] for row in matrix] == [2, 2, 1]
    glance = [
        [text.split(" ±")[0] for text in row] for row in page.at_a_glance(found, "m")
    ]
    assert glance == [
        ["1 a", "0.800", "0.200", "0.200", "—"],
        ["2 b", "0.900", "0.100", "0.100", "—"],
        ["what stays", "1.000", "—", "0.800", "—"],
    ]


def texts(path, *documents):
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents))
    return path


def test_documents_are_scored_by_their_passages(given, tmp_path):
    """Longer ones than a block, as each request's own evaluation has them."""
    story = "Ada was born in Lund. Ada is a writer. Bo is a painter in Italy. " * 3
    files = [texts(tmp_path / f"{n}.jsonl", f"{n}. {story}") for n in "ab"]
    stay = texts(tmp_path / "stay.jsonl", "Who is Cy? Cy is a cook. " * 9)
    command = words(given, tmp_path / "out", "--forget-file", *files)
    run = parse([*command, "--retain-file", str(stay)])
    scorer = scores.Scorer.of(run, lineage(run, METHOD, 0))
    counts = {name: len(rows) for name, rows in scorer.sets.items()}
    assert counts.keys() == {"1", "2", "kept"} and counts["1"] == 2
    own = LanguageDomain.of(lineage(run, METHOD, 0)[0].run).data
    assert scorer.sets["1"] == own.forget_eval
    assert all(row.question for rows in scorer.sets.values() for row in rows)
    scorer.domain.task.encode([row for rows in scorer.sets.values() for row in rows])


def test_questions_and_documents_are_no_one_sequence(given, tmp_path):
    document = texts(tmp_path / "t.jsonl", "Ada was born in Lund.")
    keep = {"a": "stay.jsonl", "t": texts(tmp_path / "keep.jsonl", "Who is Cy?")}
    links = [
        Link(
            dataclasses.replace(
                parse(words(given, tmp_path / "out", "--forget-file", file)),
                retain_file=given / keep[file.stem],
            ),
            number,
        )
        for number, file in enumerate((given / "asked/a.jsonl", document), 1)
    ]
    with pytest.raises(DataError, match=r"t.jsonl, row 1: a text, and .* a question"):
        scores.joined(links, False)
