"""Sampling the fibre beside mici: effective samples a second, the cost of a step, a protein, many chains on a GPU.

    python benchmarks/sampling.py [--only dipeptide,cost,villin,tempering,gpu] [--seconds 10] [--chains 64]
                                  [--samplers WORD] [--steps 750]
                                  [--problem NAME=FILE.npz ...] [--no-peer] [--json rows.json] [--markdown rows.md]

The peer (https://github.com/matt-graham/mici, MIT licence, on the package index) is installed into a folder of its own
in the cache and run in turn with ours by benchmarks/mici_peer.py, on the same energy. Prepared problems are kept in the
cache too; a file given with --problem needs no OpenMM. Sections:
dipeptide  alanine dipeptide (Amber14, OBC2, three centres of mass): samplers and masses, then mici, constrained and in
           null-space coordinates, each as one chain alone and as one on every core;
cost       one leapfrog step against one force evaluation;
villin     villin (Amber14, OBC2, Martini 3 beads), chains from independent relaxations: energy and chi1 rotamers;
tempering  the same with replica exchange over weakened energies of the side chains that plain chains leave apart;
gpu        leapfrog steps a second by number of chains, villin and ubiquitin; runs where there is a GPU, or on the CPU
           with few chains where it is asked for alone.

Ours in single precision, all cores; the peer in double precision, a process for each chain, its own step size
adaptation and its dynamic (NUTS) sampler. ESS counts are those of the mean over all chains; burn-in, tuning
and compilation are not in the seconds of either side, and given apart.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from jaxcg.cli.environment import configure_jax

configure_jax()

import jax
from rows import Rows, new_rows
from sampling_problems import CACHE, prepared
from sampling_protein import gpu, tempering, villin
from sampling_small import cost, dipeptide

HOME = CACHE.parent / "mici"


@dataclass(frozen=True)
class Settings:
    """What the command line asked for."""

    seconds: float
    chains: int
    steps: int
    problems: dict[str, str]
    samplers: str

    def problem(self, name: str):
        """The prepared problem of that name."""
        return prepared(name, self.problems.get(name))


class Mici:
    """Runs mici from a folder of its own, filled at the first need; ``ready`` says whether it is there."""

    def __init__(self, wanted: bool):
        self.ready = wanted
        self.name = None
        if not wanted:
            return
        if not (HOME / "mici").exists():
            words = ["-m", "pip", "install", "-q", "--no-deps", "--target", str(HOME), "mici==0.4.1"]
            subprocess.run([sys.executable, *words], check=False)
        self.ready = (HOME / "mici").exists()
        self.name = "mici 0.4.1"

    def __call__(self, problem: str, mode: str, seconds: float, processes: int) -> list[dict]:
        """What ``processes`` chains at the same time wrote; see benchmarks/mici_peer.py."""
        import numpy as np

        script = str(Path(__file__).parent / "mici_peer.py")
        path = os.pathsep.join([str(HOME), *filter(None, [os.environ.get("PYTHONPATH")])])
        with tempfile.TemporaryDirectory() as folder:
            files = [str(Path(folder) / f"{seed}.npz") for seed in range(processes)]
            running = [
                subprocess.Popen(
                    [sys.executable, script, problem, file, mode, str(seconds), str(seed)],
                    env={**os.environ, "PYTHONPATH": path, "JAX_PLATFORMS": "cpu"},
                )
                for seed, file in enumerate(files)
            ]
            if any([one.wait() for one in running]):
                raise SystemExit("benchmark: mici stopped with an error")
            return [dict(np.load(file)) for file in files]


SECTIONS: dict[str, Callable] = {
    "dipeptide": dipeptide,
    "cost": cost,
    "villin": villin,
    "tempering": tempering,
    "gpu": gpu,
}


def main() -> int:
    """Runs the sections asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections, separated by commas")
    parser.add_argument("--seconds", type=float, default=10.0, help="sampling time of each row of samples")
    parser.add_argument("--chains", type=int, default=64, help="chains of the dipeptide")
    parser.add_argument("--samplers", default="", help="only samplers of the dipeptide with this in their names")
    parser.add_argument("--steps", type=int, default=750, help="Langevin steps of either half of the burn-in")
    parser.add_argument("--problem", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("--no-peer", action="store_true", help="leave the peer's columns empty")
    parser.add_argument("--json", metavar="PATH")
    parser.add_argument("--markdown", metavar="PATH")
    arguments = parser.parse_args()
    wanted = arguments.only.split(",")
    unknown = [name for name in wanted if name not in SECTIONS]
    if unknown:
        parser.error(f"no such section: {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    problems = dict(one.split("=", 1) for one in arguments.problem)
    settings = Settings(arguments.seconds, arguments.chains, arguments.steps, problems, arguments.samplers)
    peer = Mici(not arguments.no_peer and "dipeptide" in wanted)
    rows = new_rows()
    for name in wanted:
        if name == "gpu" and jax.default_backend() == "cpu" and arguments.only == parser.get_default("only"):
            print("gpu: there is none here.", file=sys.stderr)
            continue
        SECTIONS[name](rows, settings, peer)
    write(rows, arguments.json, arguments.markdown)
    return 0


def write(rows: Rows, json: str | None, markdown: str | None) -> None:
    """Prints the table and writes what was asked for."""
    packages = ", ".join(f"{name} {number}" for name, number in rows.versions.items())
    heading = ["# Sampling the fibre", "", f"{date.today()}; {rows.device}; {packages}.", ""]
    lines = [*heading, (__doc__ or "").split("\n\n")[-1].strip(), *rows.lines()]
    print("\n".join(lines))
    if markdown:
        Path(markdown).write_text("\n".join(lines) + "\n")
    if json:
        rows.write(json)


if __name__ == "__main__":
    sys.exit(main())
