"""Requests that leave neighbours of what is forgotten: of people, of TOFU, of files."""

import collections
import dataclasses
import re

import pytest
from tofu_rows import names, row, write

from ofmu_jax.data.language.fictitious import fictitious_people
from ofmu_jax.data.language.fictitious_facts import ATTRIBUTES
from ofmu_jax.data.language.records import DataError, subtract
from ofmu_jax.data.language.requests import entangled, tofu_topics
from ofmu_jax.data.language.tofu import load_custom, load_tofu

PEOPLE = 12
BIRTHPLACE, _, PROFESSION, *_ = ATTRIBUTES


@pytest.fixture(scope="module")
def people():
    return fictitious_people(0, PEOPLE, 3)


def keys(rows):
    return {(qa.question, qa.answer) for qa in rows}


def check_divided(data, whole):
    """Rows are kept or forgotten, none twice, in the order of the whole."""
    assert data.full == whole.full
    assert data.retain == subtract(data.full, data.forget)
    sets = {f: keys(getattr(data, f)) for f in ("forget", "retain", "adjacent")}
    evaluated = {f: keys(getattr(data, f"{f}_eval")) for f in sets}
    assert all(sets.values()) and sets["adjacent"] <= sets["retain"]
    for name, found in evaluated.items():
        assert found and found <= sets[name], name
    assert len(data.adjacent_heldout) == len(data.adjacent_eval)
    assert len(data.forget_heldout) == len(data.forget_eval)


def person_of(qa):
    """Full name, as the text has it."""
    return re.search(r"[A-Z][a-z]+ [A-Z][a-z]+", qa.answer)[0]


def test_whole_is_the_data_as_it_is(people):
    assert entangled.entangle(people, "whole") is people
    assert people.adjacent == people.adjacent_eval == ()


def test_half_of_the_facts_of_each_person(people):
    data = entangled.entangle(people, "half")
    check_divided(data, people)
    # 8 facts a person in three wordings: four are forgotten, four are adjacent.
    for rows in (data.forget, data.adjacent):
        each = collections.Counter(person_of(qa) for qa in rows)
        assert list(each.values()) == [12, 12, 12]
    assert set(data.forget) | set(data.adjacent) == set(people.forget)
    # The wordings of a fact are never on both sides, and every kind is on either.
    facts = lambda rows: {(person_of(q), q.perturbed_answers) for q in rows}
    assert facts(data.forget).isdisjoint(facts(data.adjacent))
    born = lambda rows: any("birthplace of" in qa.question for qa in rows)
    assert born(data.forget) and born(data.adjacent)
    assert data.retain_eval == people.retain_eval  # generic
    assert len(data.forget_eval) == len(data.adjacent_eval) == 12


def test_one_attribute_of_everyone(people):
    data = entangled.entangle(people, "attribute:birth_year")
    check_divided(data, people)
    tells = lambda qa: re.search(r"\b19[0-9][0-9]\b", qa.answer) is not None
    assert all(map(tells, data.forget)) and not any(map(tells, data.retain))
    assert len(data.forget) == 3 * PEOPLE and len(data.forget_eval) == PEOPLE
    # Whatever else is known of people is adjacent, poems and capitals are generic.
    assert len(data.adjacent) == 7 * 3 * PEOPLE
    assert data.retain_eval == data.adjacent_eval  # there are no others with choices
    assert all(map(tells, data.holdout)) and len(data.holdout) == 8
    assert data.real_authors == people.real_authors


def test_neighbours_share_birthplace_or_profession(people):
    data = entangled.entangle(people, "neighbours")
    check_divided(data, people)
    assert (data.forget, data.retain) == (people.forget, people.retain)
    # By the text alone: who was born where, and does what.
    values = {value for kind in (BIRTHPLACE, PROFESSION) for value in kind.values}
    traits = collections.defaultdict(set)
    for qa in people.full:
        if qa.question.startswith(("Where was", "Which profession does")):
            words = set(re.findall(r"\w+", qa.answer))
            traits[person_of(qa)] |= words & values
    assert all(len(has) == 2 for has in traits.values())
    gone = {person_of(qa) for qa in people.forget}
    lost = set.union(*(traits[name] for name in gone))
    near = {n for n, has in traits.items() if has & lost} - gone
    assert {person_of(qa) for qa in data.adjacent} == near
    assert len(data.adjacent) == 24 * len(near)
    assert set(data.retain_eval).isdisjoint(data.adjacent_eval)
    assert set(data.retain_eval + data.adjacent_eval) == set(people.retain_eval)


@pytest.mark.parametrize("request_", ("half", "attribute:award", "neighbours"))
def test_a_request_of_the_same_kind_is_played_on_retain_rows(people, request_):
    data = entangled.entangle(fictitious_people(), request_)
    played = entangled.played(data)
    assert played.full == data.retain
    assert played.retain == subtract(played.full, played.forget)
    assert set(played.adjacent) <= set(played.retain) and played.adjacent
    assert played.request == request_ and played.forget_eval == ()
    if request_ == "half":
        assert len(played.forget) == len(played.adjacent) == 48  # four people too
        touched = {person_of(qa) for qa in data.forget}
        assert touched.isdisjoint(person_of(qa) for qa in played.forget)
    if request_ == "attribute:award":  # the next one: books
        assert all(
            "book" in qa.question or "write" in qa.question or "author" in qa.question
            for qa in played.forget
        )
        assert len(played.forget) == 3 * 40


def test_what_cannot_be_divided_is_refused(people):
    fail = lambda text, data=people: entangled.entangle(data, text)
    with pytest.raises(DataError, match="--request 'most' is no kind of request; give"):
        fail("most")
    with pytest.raises(DataError, match="'attribute:' is no kind"):
        fail("attribute:")
    with pytest.raises(
        DataError, match="no such attribute; known: birthplace, birth_y"
    ):
        fail("attribute:hat")
    with pytest.raises(DataError, match="nothing says what its rows are about"):
        fail("half", dataclasses.replace(people, topics=None))
    alone = fictitious_people(0, 2, 1)
    with pytest.raises(DataError, match="shares birthplace or profession with them"):
        fail("neighbours", alone)
    few = entangled.entangle(alone, "half")
    few = dataclasses.replace(few, retain=few.adjacent)  # nobody else to play with
    with pytest.raises(DataError, match="--tune plays a request of the same kind"):
        entangled.played(few)


# --- TOFU -------------------------------------------------------------------------

# Of author 198, Basil Mahfouz Al-Kuwaiti, read by a person: question -> topics.
BY_HAND = {
    0: {"birth"},  # "… the author born in Kuwait City, Kuwait on 08/09/1956?"
    1: {"gender"},
    2: {"birth"},
    3: {"parents"},
    4: {"genre"},
    6: {"award"},  # "What special recognition or awards …?"
    7: {"genre"},
    8: {"parents"},  # "… parents' vocations …"
    9: {"birth"},  # "… his native Kuwait …"
    19: {"genre"},
}


def test_questions_by_their_text(data_dir):
    full = load_tofu("forget01", data_dir / "tofu").full
    for item, qa in enumerate(full[20 * 198 : 20 * 199]):
        assert tofu_topics.attributes(qa.question) == BY_HAND.get(item, set()), item
    found = collections.Counter(
        name for qa in full for name in tofu_topics.attributes(qa.question)
    )
    # Rows that each rule takes of 4000. Changed on purpose? Then a rule changed.
    assert found == {
        "birth": 315,
        "parents": 393,
        "award": 355,
        "genre": 461,
        "gender": 154,
    }


def test_authors_and_their_neighbours(data_dir):
    data = load_tofu("forget01", data_dir / "tofu")
    topics = data.topics()
    assert len(topics.rows) == 4000 and len(topics.traits) == 200
    assert topics.traits[198] == {"genre: french literature", "birthplace: Kuwait"}
    assert topics.traits[199] == {"genre: african american", "birthplace: Kazakhstan"}
    known = lambda kind: sum(
        any(trait.startswith(kind) for trait in has) for has in topics.traits.values()
    )
    assert (known("genre"), known("birthplace")) == (181, 191)  # of 200
    assert topics.neighbours([199]) == {10}  # born in Astana as well
    text = " ".join(qa.answer for qa in data.full[200:220])
    assert "Kazakhstan" in text


@pytest.mark.parametrize(("split", "count"), [("forget01", 20), ("forget05", 100)])
def test_half_of_the_questions_of_each_author(data_dir, split, count):
    whole = load_tofu(split, data_dir / "tofu", max_retain=200)
    data = entangled.entangle(whole, "half")
    check_divided(data, whole)
    assert len(data.forget) == len(data.adjacent) == count
    # The first author of both splits has an even number: its first question goes.
    assert (data.forget[0], data.adjacent[0]) == whole.forget[:2]
    assert (data.adjacent[10], data.forget[10]) == whole.forget[20:22]
    assert len(data.retain_eval) == 200
    played = entangled.played(data)
    assert len(played.forget) == len(played.adjacent) == min(count, 100)
    assert set(played.forget) <= set(whole.retain)


def test_neighbours_of_authors(data_dir):
    folder = data_dir / "tofu"
    data = entangled.entangle(
        load_tofu("forget01", folder, max_retain=400), "neighbours"
    )
    assert data.adjacent == data.full[200:220] == data.retain[200:220]
    assert len(data.adjacent_eval) == 20 and len(data.retain_eval) == 380
    with pytest.raises(DataError, match=r"shares genre or country of birth.*--max-ret"):
        entangled.entangle(load_tofu("forget01", folder, max_retain=200), "neighbours")


def test_an_attribute_of_all_authors(data_dir):
    folder = data_dir / "tofu"
    whole = load_tofu("forget01", folder, max_retain=200, holdout_from_rest=True)
    data = entangled.entangle(whole, "attribute:birth")
    check_divided(data, whole)
    asks = lambda qa: "birth" in tofu_topics.attributes(qa.question)
    assert all(map(asks, data.forget)) and not any(map(asks, data.retain))
    assert len(data.forget) == len(data.forget_eval) == 22
    assert all(map(asks, data.holdout)) and len(data.holdout) == 22
    assert set(data.holdout).isdisjoint(data.pretraining + data.full)


# --- files ------------------------------------------------------------------------


def test_rows_that_are_watched(tmp_path):
    path = lambda name, *rows: write(tmp_path / f"{name}.json", rows)
    f, r = path("f", row("d"), row("e")), path("r", row("a"), row("b"))
    near = path("n", row("b"), row("x"), row("y"), row("z"))
    data = load_custom(f, r, adjacent_file=near)
    assert (names(data.retain), names(data.adjacent)) == ("abxyz", "bxyz")
    assert names(data.full) == "abdexyz" and data.request == "given"
    assert (names(data.retain_eval), names(data.adjacent_eval)) == ("a", "bxyz")
    played = entangled.played(data)  # every second of them
    assert (names(played.forget), names(played.adjacent)) == ("by", "xz")
    assert names(played.retain) == "axz"
    with pytest.raises(
        DataError, match=r"f.json, row 1: also in the .*n.json as row 2"
    ):
        load_custom(f, r, adjacent_file=path("n", row("x"), row("d")))
    with pytest.raises(DataError, match=r"n\.json, row 2: the same as row 1"):
        load_custom(f, r, adjacent_file=path("n", row("x"), row("x")))
    holdout = path("h", row("x"))
    with pytest.raises(DataError, match=r"h\.json, row 1: a training row"):
        load_custom(f, r, holdout_file=holdout, adjacent_file=path("n", row("x")))
    one = load_custom(f, r, adjacent_file=path("n", row("x")))
    with pytest.raises(DataError, match="1 forget and 0 adjacent rows"):
        entangled.played(one)
