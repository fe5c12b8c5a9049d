"""A picture of forget images with what each model takes them for."""

import pathlib
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from experiments.stages.files import write_with
from ofmu_jax.data.order import evenly_spaced
from ofmu_jax.data.vision.images import Labelled

RIGHT, WRONG = "#1a7f37", "#b42318"


def grid_lines(
    probabilities: Mapping[str, np.ndarray],
    place: int,
    label: int,
    class_names: Sequence[str],
) -> list[tuple[str, bool]]:
    """What each model says about one image, and whether that is its label.

    >>> grid_lines({"before": np.array([[0.1, 0.9]])}, 0, 1, ("cat", "dog"))
    [('before: dog .90', True)]
    """
    lines = []
    for name, p in probabilities.items():
        guess = int(p[place].argmax())
        # Boundary expanding adds a class that has no name.
        text = class_names[guess] if guess < len(class_names) else "forgotten"
        share = f"{p[place, guess]:.2f}".removeprefix("0")
        lines.append((f"{name}: {text} {share}", guess == label))
    return lines


def save_grid(
    path: pathlib.Path,
    forget: Labelled,
    probabilities: Mapping[str, np.ndarray],
    class_names: Sequence[str],
    most: int,
) -> list[int]:
    """Writes a PNG: evenly spaced forget images, under each the models' predictions.

    Predictions of the true class are green, others red.

    Args:
      forget: the forget images.
      probabilities: model -> (N, C), in the order of the lines.
      most: number of images.

    Returns:
      The places of the images shown within the forget set.
    """
    shown = evenly_spaced(len(forget), most).tolist()
    columns = min(4, len(shown))
    rows = -(-len(shown) // columns)
    lines = len(probabilities)
    height = 1.6 + 0.16 * (lines + 1)
    with matplotlib.rc_context({"font.size": 7}):
        figure = Figure(figsize=(2.1 * columns, height * rows), dpi=130)
        FigureCanvasAgg(figure)
        axes = figure.subplots(rows, columns, squeeze=False)
        for axis in axes.flat:
            axis.set_axis_off()
        for axis, place in zip(axes.flat, shown, strict=False):
            image, label = forget.images[place], int(forget.labels[place])
            grey = image.shape[-1] == 1
            axis.imshow(
                image[..., 0] if grey else image,
                cmap="gray" if grey else None,
                vmin=0,
                vmax=255,
            )
            axis.set_title(class_names[label])
            found = grid_lines(probabilities, place, label, class_names)
            for number, (text, right) in enumerate(found):
                axis.annotate(
                    text,
                    (0.5, 0),
                    (0, -9 * (number + 1)),
                    xycoords="axes fraction",
                    textcoords="offset points",
                    ha="center",
                    va="center",
                    color=RIGHT if right else WRONG,
                )
        figure.subplots_adjust(
            left=0.02,
            right=0.98,
            top=1 - 0.25 / (height * rows),
            bottom=0.16 * (lines + 1) / (height * rows),
            hspace=0.16 * (lines + 3) / 1.4,
        )
        write_with(path, lambda partial: figure.savefig(partial, format="png"))
    return shown
