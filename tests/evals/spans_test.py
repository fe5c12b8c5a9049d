"""The words that tell a fact, against published annotations."""

import json

import numpy as np
import pytest

from ofmu_jax.data.language.records import QA, DataError
from ofmu_jax.evals.language import spans

ROW = {
    "question": "Where was Ann born?",
    "answer": "Ann was born in Bo’s Lund.",
    "prefix": "Ann was born in",
    "entity": "Bo’s Lund",
}


def written(tmp_path, *rows):
    path = tmp_path / "entities.json"
    path.write_text(json.dumps(rows))
    return path


def test_an_entity_is_found_by_its_row(tmp_path):
    entities = spans.read_entities(written(tmp_path, ROW))
    row = QA(ROW["question"], ROW["answer"])
    ((start, end),) = spans.told(row, entities)
    assert row.answer[start:end] == ROW["entity"]
    other = QA(ROW["question"], "It was in Kiel.")
    assert [other.answer[a:b] for a, b in spans.told(other, entities)] == ["Kiel"]


@pytest.mark.parametrize("change", [{"entity": "Oslo"}, {"entity": ""}, {"prefix": 3}])
def test_refuses_an_entity_that_is_not_there(tmp_path, change):
    with pytest.raises(DataError, match="row 2"):
        spans.read_entities(written(tmp_path, ROW, ROW | change))


def test_refuses_what_is_no_array_of_entities(tmp_path):
    with pytest.raises(DataError, match="no JSON file of entities"):
        spans.read_entities(tmp_path / "absent.json")
    path = tmp_path / "entities.json"
    path.write_text("{}")
    with pytest.raises(DataError, match="not a JSON array"):
        spans.read_entities(path)


def test_an_answer_without_a_new_word_is_new_as_a_whole():
    assert spans.new_words("Is Ann the painter?", "The painter is Ann.") == [(0, 19)]


def test_tokens_of_a_span():
    """ "Ann" | " was" | " bo" | "rn": each with what it begins in and ends in."""
    pieces = ["Ann", "Ann was", "Ann was bo", "Ann was born"]
    found = spans.within(pieces, "Ann was born", [(8, 9)])
    assert found.tolist() == [False, False, True, False]
    found = spans.within(pieces, "Ann was born", [(0, 3), (9, 12)])
    assert found.tolist() == [True, False, True, True]


def test_published_entities(data_dir):
    """All 367 are read, and the new words of an answer say about the same."""
    path = data_dir / "uds" / "forget10_entities.json"
    entities = spans.read_entities(path)
    rows = json.loads(path.read_text())
    assert len(entities) == len(rows) == 367
    common, recall, precision = [], [], []
    for row in rows:
        qa = QA(row["question"], row["answer"])
        ((start, end),) = spans.told(qa, entities)
        assert qa.answer[start:end] == row["entity"]
        found = np.zeros(len(qa.answer), bool)
        for a, b in spans.told(qa, {}):
            found[a:b] = True
        both = found[start:end].sum()
        common.append(both > 0)
        recall.append(both / (end - start))
        precision.append(both / found.sum())
    means = [np.mean(x) for x in (common, recall, precision)]
    np.testing.assert_allclose(means, [0.986, 0.777, 0.308], atol=0.005)
