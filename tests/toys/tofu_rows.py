"""Rows of TOFU's shape, made from one letter, and files of them."""

import dataclasses
import json


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


def write(path, rows):
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def names(rows):
    return "".join(r.question[0] for r in rows)


def all_texts(data):
    """Every question and answer of every set, first occurrences in a fixed order."""
    texts = {}
    for field in dataclasses.fields(data):
        rows = getattr(data, field.name)
        if not isinstance(rows, tuple):
            continue
        for row in rows:
            texts.update(dict.fromkeys([row.question, row.answer]))
            others = (row.paraphrased_question, row.paraphrased_answer)
            texts.update(dict.fromkeys(text for text in others if text is not None))
            texts.update(dict.fromkeys(row.perturbed_answers))
    return list(texts)
