"""A picture of forget images with what each model takes them for."""

import base64
import io
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import matplotlib.image
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from experiments.stages.files import write_with
from ofmu_jax.data.order import evenly_spaced
from ofmu_jax.data.vision.images import Labelled

SHOWN = 5  # images on the page of a report
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
        text, share = _guess(p[place], class_names)
        shown = f"{share:.2f}".removeprefix("0")
        lines.append((f"{name}: {text} {shown}", int(p[place].argmax()) == label))
    return lines


def shown_images(
    forget: Labelled,
    probabilities: Mapping[str, np.ndarray],
    class_names: Sequence[str],
    most: int,
) -> list[dict[str, Any]]:
    """Evenly spaced forget images, as data, with what each model takes them for."""
    found = []
    for place in evenly_spaced(len(forget), most).tolist():
        label, image = int(forget.labels[place]), forget.images[place]
        said = {
            name: f"{guess} ({share:.0%})"
            for name, p in probabilities.items()
            for guess, share in [_guess(p[place], class_names)]
        }
        part, answer = {"part": "forget"}, {"answer": class_names[label]}
        found.append({**part, "picture": _data_uri(image), **answer, "said": said})
    return found


def _guess(p: np.ndarray, class_names: Sequence[str]) -> tuple[str, float]:
    """The likeliest class and its probability."""
    guess = int(p.argmax())
    # Boundary expanding adds a class that has no name.
    name = class_names[guess] if guess < len(class_names) else "forgotten"
    return name, float(p[guess])


def _data_uri(image: np.ndarray) -> str:
    """A PNG of an image (H, W, C) of bytes, inside an address of its own."""
    grey, file = image.shape[-1] == 1, io.BytesIO()
    pixels = np.repeat(image, 3, axis=-1) if grey else image
    matplotlib.image.imsave(file, pixels.astype(np.uint8), format="png")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


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
