"""The checks between sets of rows, and what a request holds."""

import pytest
from tofu_rows import all_texts

from ofmu_jax.data.language.records import (
    QA,
    DataError,
    UnlearningData,
    check_contained,
    check_distinct,
    check_overlap,
    check_unseen,
    excerpt,
    heldout_questions,
    subtract,
)

A, B, C = QA("a?", "A."), QA("b?", "B."), QA("c?", "C.")


def test_overlap_names_both_rows_and_both_remedies():
    with pytest.raises(DataError) as caught:
        check_overlap(
            [A, QA("B?  ", " b.")], [C, C, B], forget_source="f", retain_source="r"
        )
    message = str(caught.value)
    assert message.startswith("f, row 2: also in the r as row 3 (question 'B?  ')")
    assert message.endswith("go on with contradictory targets (--allow-overlap)")


@pytest.mark.parametrize(
    "other",
    [QA("A?", "a."), QA(" a?\n", "A."), QA("a?", "\tA."), QA("a?", "A.", "x", "y")],
)
def test_equal_up_to_spacing_and_case(other):
    with pytest.raises(DataError, match="row 1: also in the retain set as row 1"):
        check_overlap([A], [other])
    check_contained([A], [other], "a", "b")
    assert subtract([A, B], [other]) == (B,)


TWINS = {
    "composition": "Cafe\u0301 Müller’s “re-run” file №1?",
    "zero width": 'Ca\u200bfé Mü\u200dll\ufeffer\'s "re-run" file №1?',
    "spaces": 'Café\xa0Müller\'s\u2003"re-run"\u202ffile\u3000№1?',
    "hyphens": 'Café Müller\'s "re\u2011run" file №1?',
    "soft hyphen": 'Café Mül\xadler\'s "re-run" file №1?',
    "directions": '\u200eCafé Müller\'s "re-run" \u202afile\u202c №1?',
    "forms": 'Café Müller\'s "re-run" ﬁle №１?',
    "selectors": 'Café\ufe0f Müller\'s "re-run" file №1?',
}


@pytest.mark.parametrize("name", TWINS)
def test_texts_that_look_the_same(name):
    row = QA('Café Müller\'s "re-run" file №1?', "A.")
    twin = QA(TWINS[name], "A.")
    assert twin != row
    with pytest.raises(DataError, match="row 1: also in the retain set as row 2"):
        check_overlap([row], [B, twin])
    with pytest.raises(DataError, match="f, row 2: the same as row 1"):
        check_distinct([twin, row], "f")
    with pytest.raises(DataError, match="row 1: a training row"):
        check_unseen([twin], [row])
    check_contained([row], [twin], "a", "b")
    assert subtract([twin, A], [row]) == (A,)  # and what stays is as it was
    assert subtract([twin, A], [A])[0].question == TWINS[name]


def test_numbers_that_mean_another_are_other_rows():
    check_overlap([QA("10²?", "A.")], [QA("102?", "A."), QA("1½?", "A.")])


def test_the_same_row_with_another_paraphrase_comes_once():
    check_distinct([A, QA("a?", "A.", "x"), QA("a?", "A.", None, None, ("y",))], "f")


def test_letters_that_fold_to_two():
    with pytest.raises(DataError):
        check_overlap([QA("Straße?", "A.")], [QA("STRASSE?", "A.")])


def test_another_answer_is_another_row():
    other = QA("a?", "B.")
    check_overlap([A], [other])
    assert subtract([A], [other]) == (A,)


def test_overlap_that_is_wanted():
    check_overlap([A], [A], True)
    check_unseen([A], [A], True)


def test_unseen():
    check_unseen([A], [B, C])
    with pytest.raises(DataError, match=r"h, row 2: a training row.*--allow-overlap"):
        check_unseen([A, B], [C, B], source="h")


def test_contained():
    check_contained([C, A], [A, B, C], "part", "whole")
    with pytest.raises(DataError, match=r"part, row 2: not in whole \(question 'c\?'"):
        check_contained([A, C], [A, B], "part", "whole")


def test_subtract_keeps_order_and_repetitions():
    assert subtract([C, A, B, C], [A]) == (C, B, C)
    assert subtract([A], []) == (A,)


def test_heldout_questions():
    rows = [QA("a?", "A.", "what a?", "It is A.", ("B.",)), B]
    assert heldout_questions(rows) == (QA("what a?", "A.", None, "It is A.", ("B.",)),)


def test_messages_quote_no_more_than_needed():
    long = QA("x" * 10_000, "A.")
    with pytest.raises(DataError) as caught:
        check_overlap([long], [long])
    assert len(str(caught.value)) < 500
    assert excerpt("x" * 80) == repr("x" * 80)


@pytest.mark.parametrize("empty", ["forget", "retain", "full"])
def test_data_without_rows(empty):
    sets = dict.fromkeys(("forget", "retain", "full"), (A,)) | {empty: ()}
    with pytest.raises(DataError, match=f"mine: the {empty} set is empty"):
        UnlearningData(name="mine", **sets)


def test_all_texts_come_once_and_in_order():
    paraphrased = QA("a?", "A.", "what a?", "It is A.", ("B.",))
    data = UnlearningData("x", (A,), (B,), (A, B), forget_eval=(paraphrased,))
    expected = ["a?", "A.", "b?", "B.", "what a?", "It is A."]
    assert all_texts(data) == expected
