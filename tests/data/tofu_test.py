"""TOFU's real files where they are at hand, a small folder of the same shape always."""

import dataclasses

import pytest
from tofu_rows import evaluated, names, row, write

from ofmu_jax.data.language import tofu
from ofmu_jax.data.language.records import DataError
from ofmu_jax.data.language.tofu import SPLITS, load_tofu

SIZES = {"forget01": 40, "forget05": 200, "forget10": 400}


@pytest.fixture(scope="module")
def real(data_dir):
    """Every split of the real data."""
    if not (data_dir / "tofu").is_dir():
        pytest.skip(f"the TOFU files are not at {data_dir / 'tofu'}")
    return {split: load_tofu(split, data_dir / "tofu") for split in SPLITS}


def pairs(rows):
    return [(qa.question, qa.answer) for qa in rows]


@pytest.mark.parametrize("split", SPLITS)
def test_real_sizes(real, split):
    data = real[split]
    found = {
        field.name: len(rows)
        for field in dataclasses.fields(data)
        if isinstance(rows := getattr(data, field.name), tuple) and rows
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
    for qa in data.forget_eval + data.retain_eval:
        assert qa.paraphrased_answer and qa.paraphrased_question
    asked = [qa.paraphrased_question for qa in data.forget_eval]
    assert [qa.question for qa in data.forget_heldout] == asked
    for qa in data.real_authors + data.world_facts:
        assert qa.paraphrased_answer is None


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
FILES = {
    "full": [row("a"), row("b"), row("c"), row("d")],
    "forget01": [row("d")],
    "retain99": [row("a"), row("b"), row("c")],
    "forget01_perturbed": [evaluated("d")],
    "retain_perturbed": [evaluated("a"), evaluated("c")],
    "real_authors_perturbed": [row("Tolstoy", 3)],
    "world_facts_perturbed": [row("Paris", 3)],
}


@pytest.fixture
def folder(tmp_path):
    for name, rows in FILES.items():
        write(tmp_path / f"{name}.json", rows)
    return tmp_path


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


def test_rows_left_out_may_be_the_holdout(folder):
    load = lambda **options: load_tofu("forget01", folder, **options)
    assert names(load(max_retain=1, holdout_from_rest=True).holdout) == "c"
    assert load(max_retain=1).holdout == ()
    assert load(holdout_from_rest=True).holdout == ()  # nothing is left out
    write(folder / "holdout01.json", [row("x")])
    assert names(load(max_retain=1, holdout_from_rest=True).holdout) == "x"


def test_cut_keeps_a_row_whose_copy_is_dropped(folder):
    write(folder / "retain99.json", [row(name) for name in "abca"])
    assert names(load_tofu("forget01", folder, max_retain=2).full) == "abd"


def test_cut_that_leaves_nothing(folder):
    with pytest.raises(DataError, match="--max-retain is 0; it must be at least 1"):
        load_tofu("forget01", folder, max_retain=0)
    write(folder / "retain_perturbed.json", [evaluated("c")])
    with pytest.raises(DataError, match=r"--max-retain 2 leaves no row .* raise it"):
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


def test_splits_are_the_public_ones():
    assert tofu.SPLITS == {
        "forget01": "retain99",
        "forget05": "retain95",
        "forget10": "retain90",
    }
