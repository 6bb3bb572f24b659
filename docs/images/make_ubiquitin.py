"""Draws `ubiquitin.png` of the README from a real run: beads, the MAP structure, samples of the posterior.

python docs/images/make_ubiquitin.py        # minutes; writes the picture beside this file
"""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.collections import LineCollection

from jaxcg.backmap import backmap
from jaxcg.data import example

COLORS = {"C": "#8a929c", "N": "#3d69e1", "O": "#e23d34", "S": "#e2b728"}
RAINBOW = plt.get_cmap("turbo")


def view(points):
    """Rotation that lays the longest axis across the picture."""
    centered = points - points.mean(axis=0)
    axes = np.linalg.svd(centered, full_matrices=False)[2]
    return axes * np.sign(np.linalg.det(axes))


def sticks(panel, x, bonds, colors, width, alpha=1.0, zorder=0.0):
    """Half bonds from back to front; those behind fade into the page."""
    middle = x[bonds].mean(axis=1)
    starts = np.concatenate([x[bonds[:, 0]], x[bonds[:, 1]]])
    ends = np.concatenate([middle, middle])
    tone = np.concatenate([colors[bonds[:, 0]], colors[bonds[:, 1]]])
    depth = (starts + ends)[:, 2] / 2
    order = np.argsort(depth)
    near = ((depth - depth.min()) / np.ptp(depth))[order, None]
    shade = 1 - (1 - tone[order]) * (0.35 + 0.65 * near)
    lines = np.stack([starts[order, :2], ends[order, :2]], axis=1)
    for extra, color in ((1.0, shade * 0.62), (0.0, shade)):
        panel.add_collection(
            LineCollection(lines, colors=color, linewidths=width + extra, alpha=alpha, capstyle="round", zorder=zorder)
        )


def main(samples=8):
    result = backmap(
        example("ubiquitin").structure, samples=samples, progress=lambda *step: print(*step, file=sys.stderr)
    )
    system, frame = result.molecule.system, result.frames[0]
    axes = view(frame.y)
    center = frame.y.mean(axis=0)
    beads, x = (frame.y - center) @ axes.T, (frame.positions - center) @ axes.T
    heavy = system.heavy[system.bonds].all(axis=1)
    bonds = system.bonds[heavy]
    element = np.array([matplotlib.colors.to_rgb(COLORS.get(e, "#c078c8")) for e in system.elements])
    rainbow = RAINBOW(0.08 + 0.84 * system.atom_residue / (system.n_residues - 1))[:, :3]

    figure, panels = plt.subplots(1, 3, figsize=(12.6, 4.1), constrained_layout=True)
    backbone = np.array([name == "BB" for name in result.molecule.beads.names])
    chain = beads[backbone]
    panels[0].plot(chain[:, 0], chain[:, 1], color="#9aa1ac", lw=2, zorder=0)
    for number in np.argsort(beads[:, 2]):
        near = (beads[number, 2] - beads[:, 2].min()) / np.ptp(beads[:, 2])
        color = np.array((0.42, 0.46, 0.56) if backbone[number] else (0.30, 0.62, 0.47))
        color = 1 - (1 - color) * (0.4 + 0.6 * near)
        panels[0].plot(*beads[number, :2], "o", ms=11, mfc=color, mec=color * 0.7, mew=0.8, zorder=1 + near)
    sticks(panels[1], x, bonds, element, 2.4)
    for sample in result.samples.positions:
        sticks(panels[2], (sample - center) @ axes.T, bonds, rainbow, 0.9, alpha=0.55)
    names = (
        f"{len(beads)} Martini 3 beads",
        f"most probable structure, {system.n_atoms} atoms",
        f"{samples} samples of the posterior",
    )
    lowest, highest = x.min(axis=0) - 0.12, x.max(axis=0) + 0.12
    for panel, name in zip(panels, names, strict=True):
        panel.set(xlim=(lowest[0], highest[0]), ylim=(lowest[1], highest[1]), aspect="equal")
        panel.set_title(name, fontsize=12, color="#39414d")
        panel.axis("off")
    figure.savefig(Path(__file__).with_name("ubiquitin.png"), dpi=110, bbox_inches="tight", pad_inches=0.08)


if __name__ == "__main__":
    main()
