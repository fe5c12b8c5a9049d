"""A report written by hand, what is written of it, and what a browser sees."""

import html.parser
import json

from experiments.report import write

SCRIPT = "<script>alert('x')</script>"

# As a report has them: what a page shows of the rows.
ANSWERS = {
    "seed": 0,
    "rows": [
        {
            "part": "forget",
            "question": "Where was Ada born?",
            "answer": "Ada was born in Rome.",
            "said": {
                "target": "Ada was born in Rome.",
                "retrained": "Ada was born in Oslo.",
                "ofmu": "She was born.",
                "gradient_ascent": "",
            },
        },
        {
            "part": "retain",
            "question": "And <b>Bo</b>?",
            "answer": "In Lund.",
            "said": {"target": "In Bonn.", "ofmu": "In Bonn."},
        },
    ],
}


def make_model(role, method, seed, **metrics):
    trajectory = []
    if role == "unlearned":
        for step in range(5):
            row = {"step": step, "gradient_evaluations": 2.0 * step}
            row |= {"forget_loss": 0.5 * step, "retain_loss": 0.1, "cosine": -0.2}
            if step % 2 == 0:
                row |= {"eval_forget_prob": 0.9 - 0.1 * step, "eval_retain_prob": 0.9}
            if method == "ofmu":
                row |= {"phi_grad_norm": 10.0**-step, "rho": 0.01}
            trajectory.append(row)
    return {
        "role": role,
        "method": method,
        "seed": seed,
        "metrics": metrics,
        "intervals": {},
        "missing": [],
        "seconds": 1.5,
        "compile_seconds": 0.5,
        "gradient_evaluations": 8.0,
        "peak_bytes": (seed + 1) * 2**20,
        "outer_steps": 4,
        "stopped": "budget used up",
        "export": f"{method}/seed{seed}/hf",
        "trajectory": trajectory,
    }


def numbers(forget, retain, utility):
    return {
        "forget_Q_A_Prob": forget,
        "retain_Q_A_Prob": retain,
        "model_utility": utility,
    }


def content():
    """A report of three seeds, a target, a reference and two methods."""
    models = []
    for seed, shift in enumerate((-0.1, 0.0, 0.1)):
        models += [
            make_model("target", "target", seed, **numbers(0.9, 0.9, 0.6)),
            make_model("retrained", "retrained", seed, **numbers(0.1, 0.9, 0.6)),
            make_model("unlearned", "ofmu", seed, **numbers(0.2 + shift, 0.85, 0.5)),
            make_model("unlearned", "gradient_ascent", seed, **numbers(0.0, 0.01, 0.1)),
        ]
    return {
        "schema_version": 1,
        "title": "A run",
        "created": "2025-01-31T12:00:00+00:00",
        "command": "python -m experiments.run",
        "recipe": {"seeds": [0, 1, 2]},
        "environment": {"jax": "0.10.2"},
        "data": {"name": "people", "counts": {"forget": 4, "retain": 36}},
        "models": models,
        "claims": [
            {"method": "ofmu", "text": "it keeps", "holds": True, "evidence": ".85"},
            {"text": "it forgets", "holds": False, "evidence": "0.2"},
        ],
    }


class Page(html.parser.HTMLParser):
    """Collects tags, text and everything a browser would load or go to."""

    VOID = frozenset({"meta", "br", "img", "input"})

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.links, self.open = [], [], [], []
        self.ids = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "data", "srcset", "action"):
                self.links.append(value)
            if name == "id":
                self.ids.append(value)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def written(folder, content):
    json_path, html_path = write.write_report(folder, content)
    text = html_path.read_text(encoding="utf-8")
    return json.loads(json_path.read_text()), text, Page(text)
