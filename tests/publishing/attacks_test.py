"""What the attacks of a run found, as a published file and as tables on a page."""

import json
import pathlib

from published_toys import add_attacks as add
from published_toys import run_report

from experiments import publish
from experiments.publishing import attacks
from experiments.report import published

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE, FILE = ROOT / "docs/attacks.md", ROOT / "docs/results/attacks_forget01.json"


def row(method, attack, share, difference, word):
    values = {"before": 0.1, "after": 0.2, "at": 1.0, "reference": 0.1, "target": 0.9}
    found = {"recovered": share, "difference": difference, "interval": [0.0, 0.5]}
    return {"method": method, "attack": attack, "seeds": 2, **values, **found} | {
        "word": word,
        "said": "not kept",
        "kinds": None,
        "left": 0.5,
    }


def report(method, words, budget="10 steps"):
    entry = {"title": "T", "source": "S", "unit": "U", "axis": "", "budget": budget}
    found = {
        "attacks": {"relearn": entry, "mia-loss": entry},
        "rows": [
            row(method, "relearn", 0.25, 0.2, words[0]),
            row(method, "mia-loss", None, -0.125, words[1]),
        ],
        "verdicts": [{"method": method, "word": words[0], "text": ""}],
        "curves": [],
        "missing": [],
    }
    return run_report(method, attacks=found)


def test_a_file_grows_by_the_methods_of_a_run(tmp_path, capsys):
    add(tmp_path, report("rmu", ("recovers", "recovers")))
    status, file = add(tmp_path, report("npo", ("cannot tell", "recovers")))
    shown = capsys.readouterr().out
    assert status == 0
    assert "| Method | surely | `relearn` | `mia-loss` |" in shown
    npo, rmu = "| NPO | 1 | 25% | **-0.12** |", "| RMU | 2 | **25%** | **-0.12** |"
    assert shown.rindex(npo) < shown.rindex(rmu)  # the fewest first
    text = file.read_text()
    assert "not kept" not in text and "/m/" not in text
    assert [r["methods"] for r in json.loads(text)["runs"]] == [["rmu"], ["npo"]]
    check = ["--attacks", "--check", str(tmp_path / "run"), str(file)]
    assert publish.main(check) == 0
    add(tmp_path, report("rmu", ("no recovery", "cannot tell")))  # made again
    found = published.load(file, published.ATTACKS)
    assert [r["methods"] for r in found["runs"]] == [["npo"], ["rmu"]]
    assert len(found["rows"]) == 4
    assert publish.main(check) == 0


def test_what_does_not_compare_is_refused(tmp_path, capsys):
    _, file = add(tmp_path, report("rmu", ("recovers", "recovers")))
    before = file.read_text()
    other = report("npo", ("recovers", "recovers"), budget="20 steps")
    assert add(tmp_path, other)[0] == 2
    assert "other budgets of mia-loss, relearn" in capsys.readouterr().err
    assert file.read_text() == before
    del other["attacks"]
    assert add(tmp_path, other)[0] == 2
    assert "with --attacks" in capsys.readouterr().err
    both = ["--attacks", "--ablations", str(tmp_path / "run"), str(file)]
    assert publish.main(both) == 2


def test_wide_tables_are_parted():
    words = ("recovers", "recovers")
    content = report("rmu", words)
    names = [f"a{k}" for k in range(16)]
    entry = content["attacks"]["attacks"]["relearn"]
    content["attacks"]["attacks"] = dict.fromkeys(names, entry)
    rows = [row("rmu", name, 0.5, 0.5, "recovers") for name in names[:-1]]
    content["attacks"]["rows"] = rows
    first, second = attacks.section(attacks.distil(content)).split("\n\n")
    assert len(first.splitlines()) == 3 and "| RMU | 15 | **50%** |" in first
    assert second.rstrip().endswith("| **50%** | — |")


def test_the_page_has_the_tables_of_the_file():
    found = published.load(FILE, published.ATTACKS)
    for table in attacks.section(found).split("\n\n"):
        assert table.strip() in PAGE.read_text()
