"""The panels of a report: how the runs went, and where they ended.

Every function takes models or summary rows as `experiments.report` defines them and
gives panels; none where there is nothing to draw.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.report import glossary
from experiments.report.figures import Rows, level_of
from experiments.report.gaps import FORGET_GAP
from experiments.report.ranking import front_of, utility_of
from experiments.report.shown.gauges import interval_of
from experiments.report.shown.panels import WHOLE, Dot, Level, Line, Panel, smooth
from experiments.report.summary import mean, number, present

INK = "currentColor"
Palette = Mapping[str, str]
DISTANCES = (FORGET_GAP, "forget_quality_ks")  # 0: like the retrained model
SPENT = "gradient evaluations"
SMOOTHED = 40  # a minibatch curve with as many points gets its running mean
FAR = 2.0  # times what the methods span: a target beyond it is an arrow
FEW = 8  # models, whose raw curves are seen beneath
SHARES = (0.0, 1.0)
STYLES = {"retrained": "dashed", "target": "dotted"}


def trajectories(models: Rows, summary: Rows, palette: Palette) -> list[Panel]:
    """Forget and retain probability at the checks, over gradient evaluations.

    One line per run and panel; dashed the retrained reference, dotted the target.
    """
    panels = []
    for part, names in (("forget", glossary.FORGET), ("retain", glossary.RETAIN)):
        for key in (f"eval_{part}_prob", f"eval_{part}_accuracy"):
            if _has(models, key):
                unit = key.rpartition("_")[2]
                same = [n for n in names if "heldout" not in n and unit in n.lower()]
                levels = [
                    Level(f"{role.capitalize()}, at its evaluation", level, style)
                    for role, style in STYLES.items()
                    if (level := level_of(summary, same, role)) is not None
                ]
                title = (
                    f"{part.capitalize()} {'probability' if unit == 'prob' else unit}"
                )
                lines = _lines(models, key, palette, marked=True)
                ends = {"x_range": (0.0, math.inf), "y_range": SHARES}
                panels.append(Panel(title, SPENT, "", lines, levels=levels, **ends))
                break
    return panels


def losses(models: Rows, palette: Palette) -> list[Panel]:
    """Forget and retain loss on the minibatches; one line per run and panel."""
    labels = {"forget_loss": "Forget loss", "retain_loss": "Retain loss"}
    return _panels(models, palette, labels)


def cosine(models: Rows, palette: Palette, few: int = FEW) -> list[Panel]:
    """Cosine of the forget and the retain gradient; one line per run."""
    found = _panels(models, palette, {"cosine": "Cosine of the gradients"}, few)
    zero = [Level("", 0.0, "zero")]
    return [panel._replace(levels=zero, y_range=(-1.0, 1.0)) for panel in found]


def penalty(models: Rows, palette: Palette) -> list[Panel]:
    """‖∇Φ‖, the gap (if Φ has a maximum) and the weight ρ, on log scales; one line per
    run and panel."""
    if not _has(models, "phi_grad_norm"):
        return []
    labels = {"phi_grad_norm": "‖∇Φ‖", "gap": "Gap of Φ to its maximum"}
    labels |= {"rho": "Penalty weight ρ"}
    return [p._replace(y_log=True) for p in _panels(models, palette, labels)]


def tradeoff(models: Rows, summary: Rows, palette: Palette) -> list[Panel]:
    """Forgetting against utility, one point with its intervals per method.

    To the right the distance of forgetting from the retrained model (of the forget
    probability; in a second panel, the Kolmogorov–Smirnov distance of the truth
    ratios), upwards the utility, so the best place is top left. Small points are
    single runs, the line joins the methods that no other beats in both.
    """
    names = present(summary)
    found = (glossary.first_present([n], names) for n in DISTANCES)
    y = utility_of([row for row in summary if row["role"] == "unlearned"])
    if y is None:
        return []
    return [_plane(models, summary, x, y, palette) for x in found if x is not None]


def _plane(models: Rows, summary: Rows, x: str, y: str, palette: Palette) -> Panel:
    x_entry, y_entry = glossary.metric(x), glossary.metric(y)
    dots = []
    for model in models:
        at = [model["metrics"].get(name) for name in (x, y)]
        name = glossary.method_label(model)
        if name in palette and None not in at:
            tip = f"{name}, seed {model['seed']}"
            dots.append(_dot(model, at, tip, (x_entry, y_entry), palette, shape="run"))
    most = max((dot.at[0] for dot in dots), default=0.0)
    for row in summary:
        stats = [row["metrics"].get(name) for name in (x, y)]
        if row["role"] == "retrained":
            stats[0] = {"mean": 0.0, "low": None, "high": None}  # from itself
        across, up = map(mean, stats)
        if across is None or up is None:
            continue
        bars = [
            interval_of(stat, entry.range)
            for stat, entry in zip(stats, (x_entry, y_entry), strict=True)
        ]
        shape = "dot" if row["role"] == "unlearned" else row["role"]
        tip = glossary.method_label(row)
        dot = _dot(row, (across, up), tip, (x_entry, y_entry), palette, shape=shape)
        dot = dot._replace(bars=(bars[0], bars[1]))
        if row["role"] == "target" and across > FAR * most > 0:
            label = f"{dot.label}: {number(across)}"
            dot = Dot(label, INK, (most * 1.15, up), dot.tip, shape="away")
        dots.append(dot)
    best = front_of(summary, x, y)
    front = sorted(
        (row["metrics"][x]["mean"], row["metrics"][y]["mean"])
        for row in summary
        if row["role"] == "unlearned" and best.get((row.get("run"), row["method"]))
    )
    x_label, y_label = (f"{entry.label} {entry.sign}" for entry in (x_entry, y_entry))
    ends = {"x_range": x_entry.range, "y_range": y_entry.range}
    return Panel("", x_label, y_label, dots=dots, front=front, **ends)


def _dot(row, at, tip: str, entries, palette: Palette, shape: str) -> Dot:
    label = glossary.method_label(row)
    words = (
        f"{entry.label} {number(value)}"
        for entry, value in zip(entries, at, strict=True)
    )
    group = row["method"] if row["role"] == "unlearned" else ""
    return Dot(
        label,
        palette.get(label, INK),
        (at[0], at[1]),
        f"{tip}: {', '.join(words)}",
        group,
        shape,
    )


def _panels(
    models: Rows, palette: Palette, labels: Mapping[str, str], few: int = FEW
) -> list[Panel]:
    """Panels of the keys that some run has."""
    return [
        Panel(
            label,
            SPENT,
            "",
            _lines(models, key, palette, few=None if key == "rho" else few),
            x_range=(0.0, math.inf),
        )
        for key, label in labels.items()
        if _has(models, key)
    ]


def _lines(
    models: Rows,
    key: str,
    palette: Palette,
    *,
    marked: bool = False,
    few: int | None = None,
) -> list[Line]:
    """A line a run; a long one is its running mean, over a faint raw line.

    Args:
      few: models at most whose raw lines are drawn too; None: no line is smoothed.
    """
    found = []
    for model in models:
        label, points = glossary.method_label(model), _points(model, key)
        if label not in palette or not points:
            continue
        group = model["method"]
        whose = f"{label}, seed {model['seed']}"
        if few is not None and len(points) >= SMOOTHED:
            if len(models) <= few:
                found.append(Line(whose, palette[label], points, group, faint=True))
            x, y = zip(*points, strict=True)
            points = list(zip(x, smooth(y).tolist(), strict=True))
        found.append(Line(whose, palette[label], points, group, marked=marked))
    return found


def _points(model: Mapping[str, Any], key: str) -> list[tuple[float, float]]:
    rows: Sequence[Mapping[str, Any]] = model.get("trajectory") or []
    return [
        (row["gradient_evaluations"], row[key])
        for row in rows
        if row.get(key) is not None and row["gradient_evaluations"] is not None
    ]


def _has(models: Rows, key: str) -> bool:
    return any(m["role"] == "unlearned" and _points(m, key) for m in models)


def attack_curves(found: Mapping[str, Any] | None, palette: Palette) -> list[Panel]:
    """A panel for each attack with a curve: a line a method, the yardsticks broken."""
    curves = found["curves"] if found else ()
    panels = []
    for name in dict.fromkeys(curve["attack"] for curve in curves):
        assert found is not None
        entry = found["attacks"][name]
        own = [curve for curve in curves if curve["attack"] == name]
        lines = []
        for curve in own:
            label, role = glossary.method_label(curve), curve["role"]
            ys = (math.nan if y is None else y for y in curve["values"])
            points = list(zip(curve["at"], ys, strict=True))
            group = curve["method"] if role == "unlearned" else ""
            colour, style = palette.get(label, INK), STYLES.get(role, "")
            lines.append(Line(label, colour, points, group, style, marked=True))
        rates = entry["axis"] == "learning rate"
        ends = (0.0, math.inf) if not rates else WHOLE
        title, axis = entry["title"], entry["axis"]
        panel = Panel(title, axis, entry["unit"], lines, x_range=ends, x_log=rates)
        panels.append(panel)
    return panels
