"""Deletion requests from files of your own."""

import dataclasses
import functools

import pytest
from tofu_rows import evaluated, names, row, write

from ofmu_jax.data.language.records import DataError
from ofmu_jax.data.language.tofu import load_custom


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
    fields = {
        field.name: getattr(data, field.name) for field in dataclasses.fields(data)
    }
    assert data.name == "mine"
    sets = {k: rows for k, rows in fields.items() if isinstance(rows, tuple)}
    found = {field: names(sets[field]) for field in sets}
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
        "pretraining": "",
        "adjacent": "",
        "adjacent_eval": "",
        "adjacent_heldout": "",
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


def test_rows_that_were_to_be_forgotten_before_are_not_kept(tmp_path):
    path = lambda name, *rows: write(tmp_path / f"{name}.json", rows)
    first, second = path("1", row("a")), path("2", row("b"))
    everything = path("all", *map(row, "abcde"))
    near, unseen = path("near", row("a"), row("e")), path("unseen", row("a"))
    load = functools.partial(load_custom, second, everything)
    data = load(forgotten_files=(first, second))
    assert (names(data.retain), names(data.retain_eval)) == ("cde", "cde")
    assert names(data.full) == "cdeb"
    with pytest.raises(DataError, match=r"2\.json, row 1: also in the .*all\.json"):
        load(forgotten_files=(first,))
    data = load(forgotten_files=(first, second), adjacent_file=near)
    assert (names(data.adjacent), names(data.retain)) == ("e", "cde")
    with pytest.raises(DataError, match=r"unseen\.json, row 1: a training row"):
        load(forgotten_files=(first, second), holdout_file=unseen)
