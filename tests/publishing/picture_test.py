"""The picture of the README: its numbers are the published ones, and it repeats."""

import json
import xml.etree.ElementTree as ET

from experiments.publishing import picture


def test_points_are_the_published_means():
    points = picture.points()
    assert len(points) == 19  # two goals, 17 methods
    summary = json.loads((picture.RESULTS / picture.TUNED).read_text())["summary"]
    means = {row["method"]: row["metrics"] for row in summary}
    forget, retain = points["NPO"]
    assert forget == means["npo"]["forget_Q_A_Prob"]
    assert retain == means["npo"]["retain_Q_A_Prob"]
    assert points["Retrained: the goal"][0]["low"] is None  # one model, no interval


def test_the_same_picture_is_drawn_again(tmp_path):
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()
    first, second = (picture.write(folder).read_bytes() for folder in folders)
    assert first == second
    assert ET.fromstring(first).tag.endswith("svg")
    assert picture.PAPER.encode() in first  # it is read on dark pages too
