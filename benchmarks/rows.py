"""Rows of a benchmark: collected, printed as a table, written as JSON."""

import json
import math
import os
import platform
import resource
import sys
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version


@dataclass
class Rows:
    """Collects rows {case, metric, value, unit, peer, peer_value, ratio, device, versions}."""

    device: str
    versions: dict[str, str]
    rows: list[dict] = field(default_factory=list)

    def add(self, case, metric, value, unit="", *, better="lower", peer=None, peer_value=None, limit=None):
        """Adds one row; ``ratio`` > 1 means ours is ahead, ``limit`` is what the figure must reach.

        A count that is zero here and not there has no finite ratio: it is given as the string "inf". Shares are held
        against their limit to a tenth of a per cent, as they are printed.
        """
        reached = None if limit is None else round(value, 1) if unit == "%" else value
        self.rows.append(
            {
                "case": case,
                "metric": metric,
                "value": _plain(value),
                "unit": unit,
                "peer": peer if peer_value is not None else None,
                "peer_value": _plain(peer_value),
                "ratio": _ratio(value, peer_value, better),
                "limit": limit,
                "met": None if limit is None else bool(reached <= limit if better == "lower" else reached >= limit),
                "device": self.device,
                "versions": self.versions,
            }
        )
        return self.rows[-1]

    def lines(self) -> list[str]:
        """The rows as a Markdown table, one heading for each case."""
        lines, case = [], None
        for row in self.rows:
            if row["case"] != case:
                case = row["case"]
                lines += ["", f"### {case}", "", "| metric | ours | unit | must | met | peer | theirs | ratio |"]
                lines += ["|---|---|---|---|---|---|---|---|"]
            met = {None: "", True: "yes", False: "**no**"}[row["met"]]
            cells = [row["metric"], _show(row["value"]), row["unit"], _show(row["limit"]), met]
            cells += [row["peer"] or "", _show(row["peer_value"]), _show(row["ratio"])]
            lines.append("| " + " | ".join(cells) + " |")
        return lines

    def write(self, path: str) -> None:
        """Writes the rows as a JSON list, whole or not at all."""
        partial = f"{path}.part"
        with open(partial, "w") as handle:
            json.dump(self.rows, handle, indent=1)
        os.replace(partial, path)


def new_rows() -> Rows:
    """An empty collection that knows this machine and the versions that matter."""
    return Rows(device=device(), versions=versions())


def device() -> str:
    """The processor this runs on, in words."""
    import jax

    kind = jax.devices()[0]
    name = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as handle:
            models = [line.split(":", 1)[1].strip() for line in handle if line.startswith("model name")]
        name = models[0] if models else name
    accelerator = "" if kind.platform == "cpu" else f", {kind.device_kind}"
    return f"{name}, {len(os.sched_getaffinity(0))} cores{accelerator}"


def versions() -> dict[str, str]:
    """Versions of Python and of the packages the figures depend on."""
    found = {"python": platform.python_version()}
    for name in ("jaxcg", "jax", "equinox", "optax", "numpy", "openmm", "MDAnalysis", "vermouth"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def peak_memory_gb(who=resource.RUSAGE_SELF) -> float:
    """Largest resident memory so far, GB."""
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(who).ru_maxrss * scale / 1e9


def _plain(value):
    if value is None or isinstance(value, str):
        return value
    value = float(value)
    return int(value) if value.is_integer() and abs(value) < 1e15 else value


def _ratio(value, peer_value, better):
    if value is None or peer_value is None or isinstance(value, str) or isinstance(peer_value, str):
        return None
    above, below = (peer_value, value) if better == "lower" else (value, peer_value)
    if above == below:
        return 1
    return "inf" if below == 0 else _plain(above / below)


def _show(value) -> str:
    if value is None:
        return ""
    if isinstance(value, str) or value == 0:
        return str(value)
    if isinstance(value, int):
        return str(value)
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{digits}f}" if 1e-3 <= abs(value) < 1e5 else f"{value:.1e}"
