"""What every picture of the reports shares: colours, style, and how a figure becomes SVG text for the page.

Text and axes are drawn in the colour of the page's text, so the pictures suit a light and a dark page alike. The same
arrays give the same bytes.
"""

import io
import re
from collections.abc import Callable
from typing import Any

import numpy as np

#: Colours that read on white and on near-black.
BLUE, RED, GREEN, ORANGE, GRAY = "#4c8bd6", "#d9534f", "#4ba36f", "#d98a32", "#8b93a1"
#: Stands for the colour of the page's text and is replaced by ``currentColor``.
INK = "#010203"

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "jaxcg",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.labelsize": 9,
    "axes.titlesize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.4,
}


def svg(draw: Callable, title: str, *, size=(5.2, 3.0), columns: int = 1, left=0.68, top=0.28) -> str:
    """Runs ``draw(figure, axes)`` and returns the figure as SVG.

    Arguments:
        draw: draws into the axes, an array of them when there are several ``columns``.
        title: what a screen reader says.
        size: inches. ``left`` and ``top`` are margins, inches; fixed ones, as a layout that measures every label
            doubles the time.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=size)
        FigureCanvasSVG(figure)
        figure.patch.set_alpha(0)
        axes = figure.subplots(1, columns, squeeze=False)[0]
        for panel in axes:
            panel.patch.set_alpha(0)
        width, height = size
        figure.subplots_adjust(
            left=left / width, right=1 - 0.12 / width, bottom=0.5 / height, top=1 - top / height, wspace=0.27
        )
        draw(figure, axes if columns > 1 else axes[0])
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor").replace("xlink:href", "href")
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.S)
    # The page decides the font; the width follows the column.
    text = re.sub(r"font: ([\d.]+)px [^;\"']*", r"font-size: \1px", text)
    text = re.sub(r"font(-family)?: ?'?DejaVu Sans'?[^;\"]*;?", "", text)
    text = re.sub(
        r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', rf'<svg viewBox="\1" role="img" aria-label="{title}">', text, count=1
    )
    # Identifiers are unique inside one figure only; the page holds many.
    prefix = re.sub(r"\W+", "-", title.lower())
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = re.sub(r'(href="#|url\(#)', rf"\1{prefix}-", text)
    return text


def power_of_ten(value: float, position: int) -> str:
    """Tick label of a logarithmic axis; plain text, as setting mathematics takes longer than the rest of a figure."""
    del position
    return "10" + f"{round(np.log10(value)):d}".translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
