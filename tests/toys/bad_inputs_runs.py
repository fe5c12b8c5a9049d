"""Bad inputs: data files and the values of a run.

A case is what is done with a temporary folder, the exception that must come, and parts
of its message: the value at fault and what to do about it.
"""

import dataclasses
import functools

from experiments.config.language import (
    Baselines,
    BudgetConfig,
    Demo,
    EvalConfig,
    ModelConfig,
    OfmuConfig,
    Tofu,
    TrainConfig,
)
from experiments.config.refuse import check_run
from experiments.domains.language import given as language
from experiments.domains.language import refuse
from experiments.domains.language.data import load_data
from ofmu_jax.data.language.records import QA, DataError
from ofmu_jax.data.language.tofu import load_custom

NAN, INF = float("nan"), float("inf")


GOOD = b'{"question": "Who?", "answer": "Ann."}\n'


KEPT = b'{"question": "Where?", "answer": "Rome."}\n'


def rows(forget, retain=KEPT, **more):
    """Loads a request whose files have these bytes; None: no such file."""

    def act(folder):
        paths = {}
        for name, content in {"forget": forget, "retain": retain, **more}.items():
            paths[name] = folder / f"{name}.jsonl"
            if content is not None:
                paths[name].write_bytes(content)
        load_custom(paths["forget"], paths["retain"], holdout_file=paths.get("holdout"))

    return act


def is_folder(folder):
    load_custom(folder, folder)


def value(run=None, **fields):
    """Checks the values of a run."""

    def act(folder):
        whole = dataclasses.replace(run or Demo(output_dir=folder), **fields)
        check_run(whole)
        refuse.check_options(whole)

    return act


def baseline(name, **fields):
    whole = Baselines()
    config = dataclasses.replace(getattr(whole, name), **fields)
    whole = dataclasses.replace(whole, **{name: config})
    return value(methods=(name,), baselines=whole)


def beta(name, number):
    loss = dataclasses.replace(getattr(Baselines(), name).loss, beta=number)
    return baseline(name, loss=loss)


def file_in_the_way(folder):
    (folder / "file").write_text("mine")
    check_run(Demo(output_dir=folder / "file" / "out"))


TINY = Demo(
    people=3,
    forget_people=1,
    model_size=ModelConfig(8, 16, 1, 1, 1, 600),
    max_length=256,
)


@functools.cache
def tiny():
    data, _ = load_data(TINY)
    return language.make_task(TINY, data)[0], data


def work(run=TINY, **rows):
    """Looks ahead over a run, with other rows in some of its sets."""

    def act(folder):
        task, data = tiny()
        refuse.check_work(task, run, dataclasses.replace(data, **rows))

    return act


def refusals_with_an_end(folder):
    path = folder / "refusals.txt"
    path.write_text("I do not know.\nNo <eos> idea.")
    run = dataclasses.replace(TINY, methods=("idk_dpo",), refusals_file=path)
    work(run)(folder)


LONG = (QA("Who?", "Ann. " * 300),)


CASES = {
    # --- data files
    "json": (rows(GOOD + b'{"question": '), DataError, "forget.jsonl, row 2", "whole"),
    "missing": (rows(b'{"question": "Who?"}'), DataError, "'answer' is missing", "add"),
    "null": (rows(b'{"question": null, "answer": "A"}'), DataError, "null", "fill it"),
    "empty": (rows(b'{"question": " ", "answer": "A"}'), DataError, "empty", "fill it"),
    "number": (rows(b'{"question": 3, "answer": "A"}'), DataError, "number", "quotes"),
    "nan": (rows(b'{"question": NaN, "answer": "A"}'), DataError, "is NaN", "no JSON"),
    "inf": (
        rows(b'{"question": "Who?", "answer": "A", "paraphrased_answer": -Infinity}'),
        DataError,
        "is -Infinity",
        "write the text, or null",
    ),
    "no rows": (rows(b""), DataError, "file is empty", "at least one row"),
    "no rows to keep": (rows(GOOD, b"\n"), DataError, "retain.jsonl", "file is empty"),
    "latin-1": (rows(b'{"question": "\xe9"}'), DataError, "0xe9", "UTF-8 encoding"),
    "utf-16": (rows(GOOD.decode().encode("utf-16")), DataError, "not UTF-8", "save"),
    "twice": (rows(GOOD + KEPT + GOOD, GOOD), DataError, "row 3: the same as row 1"),
    "overlap": (rows(GOOD, KEPT + GOOD), DataError, "as row 2", "--allow-overlap"),
    "seen": (rows(GOOD, holdout=KEPT), DataError, "holdout.jsonl, row 1", "remove it"),
    "no file": (rows(None), DataError, "forget.jsonl: no such file", "check the path"),
    "folder": (is_folder, DataError, "Is a directory", "give a file"),
    # --- values
    "rate nan": (
        value(train=TrainConfig(learning_rate=NAN)),
        ValueError,
        "--train.learning-rate is nan",
        "finite",
    ),
    "rate 0": (
        value(train=TrainConfig(learning_rate=0.0)),
        ValueError,
        "must be above",
    ),
    "decay": (
        value(train=TrainConfig(weight_decay=-1)),
        ValueError,
        "-1",
        "at least 0",
    ),
    "epochs": (value(train=TrainConfig(epochs=0)), ValueError, "--train.epochs is 0"),
    "train batch": (value(train=TrainConfig(batch_size=0)), ValueError, "between 1"),
    "warm-up": (value(train=TrainConfig(warmup_fraction=2)), ValueError, "0 and 1"),
    "ofmu rate": (
        value(ofmu=OfmuConfig(outer_learning_rate=-1e-3)),
        ValueError,
        "--ofmu.outer-learning-rate is -0.001",
        "above 0",
    ),
    "inner rate": (value(ofmu=OfmuConfig(inner_learning_rate=INF)), ValueError, "inf"),
    "inner steps": (value(ofmu=OfmuConfig(inner_steps=0)), ValueError, "inner-steps"),
    "rho": (value(ofmu=OfmuConfig(rho=NAN)), ValueError, "--ofmu.rho is nan"),
    "clip": (value(ofmu=OfmuConfig(penalty_clip=0.0)), ValueError, "penalty-clip is 0"),
    "curvature in bfloat16": (
        value(
            dtype="bfloat16",
            ofmu=OfmuConfig(curvature="finite_difference", beta=0.1, rho=0.0),
        ),
        ValueError,
        "--ofmu.curvature finite_difference",
        "noise is left",
        "give --ofmu.curvature jvp, or --dtype float32",
    ),
    "penalty in bfloat16": (
        value(
            dtype="bfloat16",
            ofmu=OfmuConfig(penalty_gradient="finite_difference", beta=0.0, rho=0.1),
        ),
        ValueError,
        "give --ofmu.penalty-gradient exact, or --dtype float32",
    ),
    "baseline rate": (
        baseline("npo", learning_rate=0.0),
        ValueError,
        "--npo.learning-rate is 0.0",
        "above 0",
    ),
    "baseline loss": (beta("npo", NAN), ValueError, "--npo.loss.beta is nan", "finite"),
    "budget": (value(budget=BudgetConfig(0)), ValueError, "gradient-evaluations is 0"),
    "budget batch": (
        value(budget=BudgetConfig(batch_size=0)),
        ValueError,
        "batch-size",
    ),
    "patience": (value(budget=BudgetConfig(patience=0)), ValueError, "patience is 0"),
    "target": (
        value(budget=BudgetConfig(forget_target="soon")),
        ValueError,
        "forget-target is soon",
        "reference, chance, auto, none or a number",
    ),
    "target nan": (value(budget=BudgetConfig(forget_target="nan")), ValueError, "nats"),
    "eval batch": (value(evaluation=EvalConfig(batch_size=-1)), ValueError, "is -1"),
    "eval rows": (
        value(evaluation=EvalConfig(max_rows=0)),
        ValueError,
        "max-rows is 0",
    ),
    "width": (value(model_size=ModelConfig(0)), ValueError, "--model-size.hidden-size"),
    "no seed": (value(seeds=()), ValueError, "--seeds is empty", "give at least one"),
    "seed": (value(seeds=(0, -1)), ValueError, "--seeds has -1", "numbers from 0"),
    "no method": (value(methods=()), ValueError, "--methods is empty"),
    "method": (value(methods=("ofum",)), ValueError, "'ofum'", "did you mean ofmu"),
    "retain rows": (value(Tofu(), max_retain=0), ValueError, "--max-retain is 0"),
    "people": (
        value(forget_people=0),
        ValueError,
        "--forget-people is 0",
        "at least 1",
    ),
    "length": (value(max_length=0), ValueError, "--max-length is 0", "at least 2"),
    "file in the way": (file_in_the_way, ValueError, "is a file", "another folder"),
    # --- looking ahead
    "one update": (
        work(dataclasses.replace(TINY, budget=BudgetConfig(gradient_evaluations=2))),
        ValueError,
        "one update of ofmu takes",
        "--budget.gradient-evaluations allows (2); raise it",
    ),
    "refusal": (
        refusals_with_an_end,
        DataError,
        "refusals.txt, refusal 2: answer 'No <eos> idea.': holds '<eos>'",
        "reword",
    ),
    "layer": (
        work(dataclasses.replace(TINY, methods=("rmu",))),
        ValueError,
        "--rmu.loss.layer 1: the model has only layers 0 to 0",
        "choose one",
    ),
    "too long": (
        work(forget=LONG),
        DataError,
        "forget set, row 1",
        "the 256 of --max-length",
    ),
    "too long later": (
        work(forget_eval=(QA("Who?", "Ann.", perturbed_answers=(LONG[0].answer,)),)),
        DataError,
        "forget_eval set, row 1",
        "raise --max-length",
    ),
    "control row": (
        work(retain=(QA("Who?", "Ann."), QA("Who?", "<eos> Bob"))),
        DataError,
        "retain set, row 2: answer '<eos> Bob': holds '<eos>'",
        "reword the row",
    ),
}
