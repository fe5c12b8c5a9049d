"""The page in a browser: no errors, buttons that do what they say, axe-core's rules."""

import html
import json
import os
import pathlib
import re

import pytest
import reports
from chromium import opened, with_script

from experiments.report import write

CLICKS = """
const shown = (query) => [...document.querySelectorAll(query)]
  .filter((e) => getComputedStyle(e).display !== "none").length;
const before = [shown(".panel g.line"), shown(".said.m")];
document.querySelector('.legend button').click();
document.querySelectorAll('.choose input')[1].click();
const table = document.querySelector("table.sorts");
const order = () => [...table.tBodies[0].rows].map((row) => row.cells[0].textContent);
const unsorted = order();
const heads = [...table.tHead.rows[0].cells];
const forget = heads.find((head) => head.textContent.includes("forget prob"));
forget.querySelector("button").click();
const seed = document.querySelector(".gauge .seed");
seed.dispatchEvent(new PointerEvent("pointermove", {clientX: 40, clientY: 40}));
const panel = document.querySelectorAll("svg.panel g.line")[0].closest("svg");
const box = panel.getBoundingClientRect();
const tip = () => document.querySelector(".tip").textContent;
const first = tip();
const at = {clientX: box.left + 0.11 * box.width, clientY: box.top + 9};
panel.dispatchEvent(new PointerEvent("pointermove", at));
const after = [shown(".panel g.line"), shown(".said.m")];
const wide = document.documentElement.scrollWidth - innerWidth;
leave({before, after, unsorted, sorted: order(), tips: [first, tip()], wide});
"""
AXE = """axe.run().then((found) => leave(found.violations.map((v) =>
  [v.id, v.nodes.map((n) => n.html.slice(0, 120))])));"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    content = reports.content() | {"answers": reports.ANSWERS}
    return write.write_report(tmp_path_factory.mktemp("page"), content)[1]


def result(dom):
    (text,) = re.findall(r'<pre id="RESULT">(.*?)</pre>', dom, re.DOTALL)
    return json.loads(html.unescape(text))


def test_buttons_and_values_on_hover(page):
    dom, console = opened(with_script(page, CLICKS, "clicks.html"), width=500)
    assert not console
    found = result(dom)
    # Six curves a panel; OFMU's three a panel are off. One method's answers are shown.
    assert found["before"][0] % 6 == 0
    assert found["after"][0] < found["before"][0]
    assert found["before"][1] == 2 and found["after"][1] == 1
    assert found["unsorted"][0].startswith("Retrained")
    names = [name.partition(" ")[0] for name in found["sorted"]]
    assert names == ["Gradient", "Retrained", "OFMU", "Target"]  # 0, 0.1, 0.2, 0.9
    assert found["tips"][0] == "Seed 0: 0.100"
    assert re.match(r"at 0Gradient ascent, seed 0: 0\.9", found["tips"][1])
    assert found["wide"] <= 0  # nothing scrolls sideways but tables


@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_nothing(page, dark):
    source = os.environ.get("AXE_CORE")
    if not source:
        pytest.skip("AXE_CORE is not set: npm install axe-core, then .../axe.min.js")
    axe = pathlib.Path(source).read_text(encoding="utf-8")
    dom, console = opened(with_script(page, axe + AXE, "axe.html"), dark=dark)
    assert not console and result(dom) == []
