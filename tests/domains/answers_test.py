"""The rows that a report shows, with what the models say of them."""

import base64
import dataclasses
import io
import pathlib

import matplotlib.image
import numpy as np

from experiments.config.language import Demo
from experiments.domains.base import Model
from experiments.domains.language.evaluated import asked
from experiments.domains.vision.grid import shown_images
from ofmu_jax.data.language.records import QA, UnlearningData
from ofmu_jax.data.vision.images import Labelled
from ofmu_jax.evals.evaluation import Evaluation

ROWS = tuple(QA(f"{number}?", f" {number}!") for number in range(9))


def model(name, forget, retain):
    found = Evaluation(generations={"forget": list(forget), "retain": list(retain)})
    folder = pathlib.Path()
    return Model("target", name, 0, None, "", {}, folder, evaluation=found)


def test_questions_are_evenly_spaced():
    data = UnlearningData(
        name="d",
        forget=ROWS,
        retain=ROWS[:4],
        full=ROWS,
        forget_eval=ROWS,
        retain_eval=ROWS[:4],
    )
    models = [model("target", "abcdefghi", "abcd"), model("short", "ab", "abcd")]
    found = asked(data, Demo(), models)
    assert [row["question"] for row in found] == ["0?", "4?", "8?", "0?", "3?"]
    assert [row["part"] for row in found] == ["forget"] * 3 + ["retain"] * 2
    assert found[1]["answer"] == "4!" and found[1]["said"] == {"target": "e"}
    assert found[4]["said"] == {"target": "d", "short": "d"}
    assert asked(data, dataclasses.replace(Demo(), show_answers=False), models) == []
    assert asked(data, Demo(), []) == []


def test_pictures_hold_the_images():
    images = np.arange(5 * 2 * 2, dtype=np.uint8).reshape(5, 2, 2, 1)
    forget = Labelled(images, np.array([0, 1, 0, 1, 1], np.int32))
    sure, torn = np.eye(3)[[0, 1, 2, 2, 2]], np.full((5, 3), [0.5, 0.3, 0.2])
    said = {"target": sure, "ofmu": torn}
    first, last = shown_images(forget, said, ("cat", "dog"), 2)
    assert (first["answer"], last["answer"]) == ("cat", "dog")
    assert first["said"] == {"target": "cat (100%)", "ofmu": "cat (50%)"}
    assert last["said"]["target"] == "forgotten (100%)"  # a class without a name
    data = base64.b64decode(last["picture"].removeprefix("data:image/png;base64,"))
    pixels = matplotlib.image.imread(io.BytesIO(data), format="png")
    np.testing.assert_allclose(pixels[..., 0] * 255, images[4, ..., 0], atol=1e-4)
