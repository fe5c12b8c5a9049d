"""TOFU's real files where they are at hand, a small folder of the same shape always."""

import dataclasses
import json

import pytest

from ofmu_jax.data import tofu
from ofmu_jax.data.records import DataError
from ofmu_jax.data.tofu import SPLITS, load_custom, load_tofu

SIZES = {"forget01": 40, "forget05": 200, "forget10": 400}


@pytest.fixture(scope="module")
def real(data_dir):
    """Every split of the real data."""
    if not (data_dir / "tofu").is_dir():
        pytest.skip(f"the TOFU files are not at {data_dir / 'tofu'}")
    return {split: load_tofu(split, data_dir / "tofu") for split in SPLITS}


def pairs(rows):
    return [(row.question, row.answer) for row in rows]


@pytest.mark.parametrize("split", SPLITS)
def test_real_sizes(real, split):
    data = real[split]
    found = {
        field.name: len(getattr(data, field.name))
        for field in dataclasses.fields(data)
        if field.name != "name"
    }
    assert found == {
        "forget": SIZES[split],
        "retain": 4000 - SIZES[split],
        "full": 4000,
        "forget_eval": SIZES[split],
        "retain_eval": 400,
        "real_authors": 100,
        "world_facts": 117,
        "forget_heldout": SIZES[split],
        "retain_heldout": 400,
        "holdout": 0,
    }
    assert data.name == f"tofu/{split}"


@pytest.mark.parametrize("split", SPLITS)
def test_real_sets_fit_together(real, split):
    data = real[split]
    forget, retain = set(pairs(data.forget)), set(pairs(data.retain))
    assert not forget & retain
    assert forget | retain == set(pairs(data.full))
    assert len(set(pairs(data.full))) == 4000
    assert set(pairs(data.forget_eval)) == forget
    assert set(pairs(data.retain_eval)) <= retain
    # The forgotten authors are the last ones of the full set.
    assert pairs(data.full[-SIZES[split] :]) == pairs(data.forget)


@pytest.mark.parametrize("split", SPLITS)
def test_real_numbers_of_answers(real, split):
    data = real[split]
    count = lambda rows: {len(row.perturbed_answers) for row in rows}
    assert count(data.forget_eval) == count(data.retain_eval) == {5}
    assert count(data.real_authors) == count(data.world_facts) == {3}
    for row in data.forget_eval + data.retain_eval:
        assert row.paraphrased_answer and row.paraphrased_question
    asked = [row.paraphrased_question for row in data.forget_eval]
    assert [row.question for row in data.forget_heldout] == asked
    for row in data.real_authors + data.world_facts:
        assert row.paraphrased_answer is None


def test_real_splits_are_nested(real):
    one, five, ten = (set(pairs(real[split].forget)) for split in SPLITS)
    assert one < five < ten
    one, five, ten = (set(pairs(real[split].retain)) for split in SPLITS)
    assert one > five > ten


@pytest.mark.parametrize("most, kept_eval", [(60, 60), (500, 400), (10_000, 400)])
def test_real_data_cut(real, data_dir, most, kept_eval):
    whole = real["forget01"]
    data = load_tofu("forget01", data_dir / "tofu", max_retain=most)
    kept = min(most, 3960)
    assert data.retain == whole.retain[:kept]
    assert len(data.full) == 40 + kept
    assert set(pairs(data.full)) == set(pairs(data.forget + data.retain))
    assert len(data.retain_eval) == len(data.retain_heldout) == kept_eval
    assert data.forget == whole.forget
    assert data.forget_eval == whole.forget_eval


# A folder of TOFU's shape: four training rows, the last of them to be forgotten.
def row(name, options=0, **more):
    wrong = {"perturbed_answer": [f"not {name} {k}" for k in range(options)]}
    return (
        {"question": f"{name}?", "answer": f"{name}."}
        | (wrong if options else {})
        | more
    )


def evaluated(name):
    texts = {
        "paraphrased_question": f"what {name}?",
        "paraphrased_answer": f"It's {name}",
    }
    return row(name, 5, **texts)


FILES = {
    "full": [row("a"), row("b"), row("c"), row("d")],
    "forget01": [row("d")],
    "retain99": [row("a"), row("b"), row("c")],
    "forget01_perturbed": [evaluated("d")],
    "retain_perturbed": [evaluated("a"), evaluated("c")],
    "real_authors_perturbed": [row("Tolstoy", 3)],
    "world_facts_perturbed": [row("Paris", 3)],
}


def write(path, rows):
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


@pytest.fixture
def folder(tmp_path):
    for name, rows in FILES.items():
        write(tmp_path / f"{name}.json", rows)
    return tmp_path


def names(rows):
    return "".join(r.question[0] for r in rows)


def test_small_folder(folder):
    data = load_tofu("forget01", folder)
    assert (names(data.full), names(data.retain), names(data.forget)) == (
        "abcd",
        "abc",
        "d",
    )
    assert data.forget_eval[0].perturbed_answers[4] == "not d 4"
    assert data.retain_heldout[1].question == "what c?"
    assert data.holdout == ()


def test_holdout_is_read_where_it_exists(folder):
    write(folder / "holdout01.json", [row("x"), row("y")])
    assert names(load_tofu("forget01", folder).holdout) == "xy"


def test_holdout_must_be_unseen(folder):
    write(folder / "holdout01.json", [row("x"), row("b")])
    with pytest.raises(DataError, match=r"holdout01\.json, row 2: a training row"):
        load_tofu("forget01", folder)
    assert names(load_tofu("forget01", folder, allow_overlap=True).holdout) == "xb"


def test_unknown_split(folder):
    with pytest.raises(DataError, match="split 'forget02'; known splits: forget01, f"):
        load_tofu("forget02", folder)


@pytest.mark.parametrize("name", FILES)
def test_missing_file_is_named(folder, name):
    (folder / f"{name}.json").unlink()
    with pytest.raises(DataError, match=rf"^{name}\.json: not found in the folder"):
        load_tofu("forget01", folder)


def test_missing_folder(tmp_path):
    with pytest.raises(DataError, match="choose another data folder"):
        load_tofu("forget01", tmp_path / "nowhere")


@pytest.mark.parametrize(
    "name, rows, message",
    [
        ("forget01", [], "the file is empty"),
        ("forget01", [row("x")], r"forget01\.json, row 1: not in full\.json"),
        ("retain99", [row("a"), row("x")], r"retain99\.json, row 2: not in full"),
        ("retain99", [row("a"), row("d")], r"also in the retain99\.json as row 2"),
        ("forget01_perturbed", [row("d", 5)], "'paraphrased_answer' is missing"),
        ("forget01_perturbed", [evaluated("a")], r"row 1: not in forget01\.json"),
        ("retain_perturbed", [evaluated("d")], r"row 1: not in retain99\.json"),
        ("world_facts_perturbed", [row("Paris")], "'perturbed_answer' is missing"),
    ],
)
def test_sets_that_do_not_fit(folder, name, rows, message):
    write(folder / f"{name}.json", rows)
    with pytest.raises(DataError, match=message):
        load_tofu("forget01", folder)


def test_overlap_on_request(folder):
    write(folder / "retain99.json", [row(name) for name in "abcd"])
    assert names(load_tofu("forget01", folder, allow_overlap=True).retain) == "abcd"


@pytest.mark.parametrize(
    "most, full, retain, evaluation",
    [(1, "ad", "a", "a"), (2, "abd", "ab", "a"), (3, "abcd", "abc", "ac")],
)
def test_cut(folder, most, full, retain, evaluation):
    data = load_tofu("forget01", folder, max_retain=most)
    assert (names(data.full), names(data.retain)) == (full, retain)
    assert names(data.retain_eval) == evaluation


def test_cut_keeps_a_row_whose_copy_is_dropped(folder):
    write(folder / "retain99.json", [row(name) for name in "abca"])
    assert names(load_tofu("forget01", folder, max_retain=2).full) == "abd"


def test_cut_that_leaves_nothing(folder):
    with pytest.raises(DataError, match="max_retain is 0; it must be at least 1"):
        load_tofu("forget01", folder, max_retain=0)
    write(folder / "retain_perturbed.json", [evaluated("c")])
    with pytest.raises(DataError, match=r"max_retain=2 leaves no row .* raise it"):
        load_tofu("forget01", folder, max_retain=2)


@pytest.fixture
def hub(folder, monkeypatch):
    """A hub that serves the folder; a dict of errors to raise instead, by name."""
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    errors = {"holdout01.json": LocalEntryNotFoundError("not there")}

    def download(repo, filename, *, repo_type):
        assert (repo, repo_type) == ("locuslab/TOFU", "dataset")
        if filename in errors:
            raise errors[filename]
        return str(folder / filename)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    return errors


def test_from_the_hub(hub, folder):
    assert load_tofu("forget01") == load_tofu("forget01", folder)


def test_holdout_from_the_hub(hub, folder):
    del hub["holdout01.json"]
    write(folder / "holdout01.json", [row("x")])
    assert names(load_tofu("forget01").holdout) == "x"


@pytest.mark.parametrize("name", ["full.json", "holdout01.json"])
@pytest.mark.parametrize("error", [TimeoutError(), OSError("no\nroute")])
def test_hub_out_of_reach(hub, name, error):
    hub[name] = error
    with pytest.raises(DataError, match=rf"^{name}: cannot be fetched .*--data-dir"):
        load_tofu("forget01")


def test_custom_with_all_its_files(tmp_path):
    path = lambda name, *rows: write(tmp_path / f"{name}.json", rows)
    data = load_custom(
        path("f", row("d")),
        path("r", row("a"), row("b")),
        full_file=path("full", row("d"), row("a"), row("b"), row("c")),
        forget_eval_file=path("fe", evaluated("d")),
        retain_eval_file=path("re", evaluated("a")),
        real_authors_file=path("ra", row("T", 3)),
        world_facts_file=path("wf", row("P", 3)),
        holdout_file=path("h", row("x")),
        name="mine",
    )
    sets = dataclasses.asdict(data)
    assert sets.pop("name") == "mine"
    found = {field: "".join(r["question"][0] for r in sets[field]) for field in sets}
    assert found == {
        "forget": "d",
        "retain": "ab",
        "full": "dabc",
        "forget_eval": "d",
        "retain_eval": "a",
        "real_authors": "T",
        "world_facts": "P",
        "forget_heldout": "w",
        "retain_heldout": "w",
        "holdout": "x",
    }


def test_custom_defaults(tmp_path):
    forget = write(tmp_path / "f.json", [row("d")])
    data = load_custom(forget, write(tmp_path / "r.json", [row("a"), row("b")]))
    assert names(data.full) == "abd"
    assert (data.forget_eval, data.retain_eval) == (data.forget, data.retain)
    assert data.forget_heldout == data.holdout == data.real_authors == ()


def test_custom_keeps_all_other_rows_of_the_full_file(tmp_path):
    forget = write(tmp_path / "f.json", [row("b")])
    full = write(tmp_path / "full.json", [row("a"), row("b"), row("c")])
    data = load_custom(forget, full_file=full)
    assert (names(data.retain), names(data.full)) == ("ac", "abc")
    with pytest.raises(DataError, match="nothing says what to keep; give retain_file"):
        load_custom(forget)
    with pytest.raises(DataError, match="the retain set is empty"):
        load_custom(full, full_file=full)


def test_custom_refusals(tmp_path):
    path = lambda name, *rows: write(tmp_path / f"{name}.json", rows)
    a, ab, x = path("a", row("a")), path("ab", row("a"), row("b")), path("x", row("x"))
    with pytest.raises(DataError, match=r"empty\.json: the file is empty"):
        load_custom(path("empty"), a)
    with pytest.raises(DataError, match=r"empty\.json: the file is empty"):
        load_custom(a, path("empty"))
    with pytest.raises(DataError, match=r"a\.json, row 1: also in the .*ab\.json as"):
        load_custom(a, ab)
    assert names(load_custom(a, ab, allow_overlap=True).full) == "aba"
    with pytest.raises(DataError, match=r"x\.json, row 1: not in .*ab\.json"):
        load_custom(x, full_file=ab)
    with pytest.raises(DataError, match=r"x\.json, row 1: not in .*ab\.json"):
        load_custom(a, x, full_file=ab)
    with pytest.raises(DataError, match=r"a\.json, row 1: a training row"):
        load_custom(a, x, holdout_file=a)


def test_splits_are_the_public_ones():
    assert tofu.SPLITS == {
        "forget01": "retain99",
        "forget05": "retain95",
        "forget10": "retain90",
    }
