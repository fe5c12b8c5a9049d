"""Logit lens and depth: against the model's own scores, and between known ends."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from asked_toys import Network, Scripted
from llamas import hidden_states

from ofmu_jax.attacks import looking
from ofmu_jax.attacks.base import Attacked, Rows
from ofmu_jax.attacks.budget import Budget
from ofmu_jax.attacks.registry import ATTACKS
from ofmu_jax.data.language.records import QA, key_of
from ofmu_jax.evals.language.depth import unlearning_depth

NET = Network()
FULL, RETAINED, OTHER = map(NET.made, (2, 0, 1))
ROWS = tuple(
    QA(f"Where is {name}?", f"{name} is in {place} now.")
    for name, place in zip(
        "ABCDE", ("Oslo", "Rome", "Kyiv", "Ur", "Manila"), strict=True
    )
)
RUN = Rows(ROWS, ROWS)


def attack(name, params, rows=RUN, target=FULL, reference=RETAINED):
    model = Attacked(NET, params, target, reference)
    return ATTACKS[name].run(model, rows, Budget(), lambda _: None)


def test_tokens_that_tell():
    """The entity where it is known; else the words that the question does not say."""
    (example,) = Scripted().encode(ROWS[:1])
    decode = lambda ids: NET.tokenizer.decode(ids, skip_special_tokens=True)
    spelled = lambda places: "".join(chr(x) for x in example.input_ids[places])
    found = looking.told_tokens(decode, example, ROWS[0], {})
    assert spelled(found) == "Oslonow"
    entities = {key_of(ROWS[0]): (8, 12)}
    found = looking.told_tokens(decode, example, ROWS[0], entities)
    assert spelled(found) == "Oslo" and found[0] == len(ROWS[0].question) + 8
    # A tokenizer that spells it otherwise: the whole answer, without the end.
    found = looking.told_tokens(lambda ids: "", example, ROWS[0], {})
    assert spelled(found) == ROWS[0].answer


def test_the_last_layer_is_the_model():
    """Mean log-probability of these tokens among those that the evaluation scores."""
    found = attack("lens", OTHER)
    assert found.at == (1.0, 2.0, 3.0) and found.scores.shape == (3, 5)
    expected = []
    for row, scores in zip(
        ROWS, NET.score_encoded(OTHER, NET.encode(ROWS)), strict=True
    ):
        first = row.answer.index("in ") + 3
        place = row.answer[first:].split()[0]
        end = len(row.answer) - 1  # the full stop
        told = [*range(first, first + len(place)), *range(end - 3, end)]
        expected.append(np.mean(scores.log_prob[told]))
    np.testing.assert_allclose(found.scores[-1], expected, rtol=1e-4)
    np.testing.assert_array_equal(found.before, found.scores[-1])


def test_an_early_layer_is_a_model_without_the_later_ones():
    found = attack("lens", OTHER)
    shallow = Network()
    shallow.config = type(NET.config)(**{**vars(NET.config), "num_layers": 1})
    params = {**OTHER, "layers": jax.tree.map(lambda x: x[:1], OTHER["layers"])}
    model = Attacked(shallow, params)
    early = ATTACKS["lens"].run(model, RUN, Budget(), lambda _: None)
    np.testing.assert_allclose(early.scores[0], found.scores[0], rtol=1e-4)


def test_depth_by_hand():
    """Layer 3 is below the threshold; ratios are cut at 0 and 1, and weighted by Δ."""
    retained = [[1.0, 2.0], [3.0, 0.0], [0.05, 0.04]]
    unlearned = [[-1.0, 1.0], [6.0, 9.0], [9.0, 9.0]]
    np.testing.assert_allclose(unlearning_depth(retained, unlearned), [3 / 4, 1 / 2])
    assert np.isnan(unlearning_depth([[0.0]], [[1.0]])).all()


def test_depth_lies_between_the_target_and_the_retrained_model():
    assert attack("depth", RETAINED).scores.tolist() == [[0.0] * 5]
    rows = attack("depth", FULL)
    held = int(rows.said.split()[0])
    assert held == 2  # of random models: the streams of others mostly do no harm
    np.testing.assert_allclose(np.sort(rows.scores[0])[-held:], 1.0, atol=1e-4)
    between = attack("depth", OTHER).scores[0]
    assert np.any((between > 0) & (between < 1))


def test_depth_against_layers_put_together_by_hand():
    """The exchange in every place, after layer 1: the other model's first layer and
    embedding, then the full model's others."""
    (batch,) = looking.batches(Attacked(NET, FULL), ROWS[:4], {})
    where = np.ones(batch.ids_BxL.shape, bool)
    found = looking.exchanged(NET.config, FULL, OTHER, batch, where)
    layers = jax.tree.map(
        lambda a, b: jnp.concatenate([b[:1], a[1:]]), FULL["layers"], OTHER["layers"]
    )
    mixed = {**FULL, "layers": layers, "embed_tokens": OTHER["embed_tokens"]}
    last = hidden_states(NET.config, 2, mixed, batch.ids_BxL, batch.mask_BxL)
    expected = looking._log_prob(NET.config, FULL, batch, last)
    np.testing.assert_allclose(found[0], expected, rtol=1e-4)
    nowhere = looking.exchanged(NET.config, FULL, OTHER, batch, where & False)
    own = looking.lens(NET.config, FULL, batch)[-1]
    np.testing.assert_allclose(nowhere, np.broadcast_to(own, (3, 4)), rtol=1e-4)


def test_places_are_one_before_the_tokens():
    *_, batch = looking.batches(Attacked(NET, FULL), ROWS, {})
    places, weights = batch.places_BxK[0], batch.weights_BxK[0]
    said = "".join(chr(x) for x in batch.ids_BxL[0, places[weights > 0] + 1])
    assert said == "Manilanow"
    assert batch.where_BxL[0].sum() == len(said)
    assert not batch.where_BxL[1:].any()  # blank rows
    assert weights.sum() == pytest.approx(1) and not batch.weights_BxK[1:].any()


def test_depth_needs_both_models_beside_it():
    lacks = ATTACKS["depth"].lacks(RUN, Attacked(NET, FULL, target=FULL))
    assert lacks == "it needs a reference model"
