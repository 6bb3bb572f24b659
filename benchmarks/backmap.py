"""Back-mapping benchmark: mapped structures (A), frames of simulations (B), OpenMM's view (C), whole commands (D),
posterior samples (E), frames in batches (F).

    python benchmarks/backmap.py [--json PATH] [--markdown PATH] [--sections ABCDEF] [--proteins ubiquitin,villin]
                                 [--seeds 5] [--frames 20] [--peer] [--work FOLDER]

Prints a table of every figure with what it must reach, beside those of cg2at2 with ``--peer`` (installed into an
environment of its own; needs GROMACS). A ratio above 1 means ours is ahead. Run time is that of a compiled program;
compilation is given apart.
"""

import argparse
import os
import tempfile
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path

# As on the command line, but compiling anew: compilation is measured.
os.environ["JAXCG_NO_CACHE"] = "1"
from jaxcg.cli.environment import configure_jax

configure_jax()

import jax
import numpy as np
from cg2at import DEFAULT_HOME, Cg2at
from figures import FRAME_LIMITS, MAPPED_LIMITS, report
from rows import Rows, new_rows, peak_memory_gb
from scoring import PROTEINS, Case, judge, load_case, secondary_structure

from jaxcg.backmap.engine import Engine
from jaxcg.backmap.pipeline import better_mapping, ensemble
from jaxcg.backmap.result import FrameResult
from jaxcg.batching import batch_width
from jaxcg.lockstep import together

SECONDS = {"A": {"ubiquitin": 1.0, "lysozyme": 1.6}, "B": {"ubiquitin": 1.0, "lysozyme": 2.0}}


class Compilations:
    """Counts XLA compilations while it is open."""

    def __init__(self):
        self.count = 0
        self._open = True
        jax.monitoring.register_event_duration_secs_listener(self._heard)

    def _heard(self, event: str, duration: float, **_) -> None:
        del duration
        if self._open and event.endswith("backend_compile_duration"):
            self.count += 1

    def close(self) -> int:
        """Stops counting; returns the count."""
        self._open = False
        return self.count


@dataclass
class Peer:
    """The peer's side of the table."""

    program: Cg2at
    work: Path

    def structures(self, case: Case, beads: list[np.ndarray], tag: str):
        """Its structures of each frame (None where it failed), and its seconds."""
        found = [
            self.program.run(case.beads, y, case.system, self.work / tag / case.name / f"{k:02d}")
            for k, y in enumerate(beads)
        ]
        return found


def main() -> None:
    options = _options()
    rows = new_rows()
    peer = None
    if options.peer:
        program = Cg2at(Path(options.peer_home))
        if program.ready:
            rows.versions["cg2at2"] = program.version()
            peer = Peer(program, Path(options.work or tempfile.mkdtemp(prefix="jaxcg-peer-")))
        else:
            print(f"no peer: {program.reason}")
    if set(options.sections) & set("ABCEF"):
        for name in options.proteins.split(","):
            case = load_case(name)
            if set(options.sections) & set("ACE"):
                mapped_structures(rows, case, options, peer)
            if "B" in options.sections:
                simulation_frames(rows, case, options, peer)
            if "F" in options.sections:
                batches(rows, case, options)
        rows.add("all", "peak memory of this benchmark", peak_memory_gb(), "GB")
    if "D" in options.sections:
        whole_commands(rows)
    text = "\n".join(_heading(rows) + rows.lines()) + "\n"
    print(text)
    if options.json:
        rows.write(options.json)
    if options.markdown:
        Path(options.markdown).write_text(text)
    missed = [f"{row['case']}: {row['metric']}" for row in rows.rows if row["met"] is False]
    print(f"{sum(row['met'] is True for row in rows.rows)} aims met, {len(missed)} missed", *missed, sep="\n  ")


def mapped_structures(rows: Rows, case: Case, options, peer: Peer | None) -> None:
    """Section A: beads mapped from atoms, every seed; and C on the first seed's structure."""
    name = f"A {case.name}, {options.seeds} seeds"
    y = case.beads.positions
    engine, results, first, later, compiled = _run(case, [(0, y)] * options.seeds, "auto", None)
    ours = [judge(case, r.positions, y, engine.mapping) for r in results]
    if "A" in options.sections:
        print(
            name, *(f"  seed {k}: {_line(r, q, s)}" for k, (r, q, s) in enumerate(zip(results, ours, later))), sep="\n"
        )
        theirs = peer.structures(case, [y], "mapped") if peer else []
        judged = [judge(case, t.positions, y, engine.mapping, heavy_only=True) for t in theirs if t]
        report(rows, name, ours, theirs=judged, peer="cg2at2", distances=True, limits=MAPPED_LIMITS)
        source = judge(case, case.reference, y, engine.mapping, heavy_only=True)
        rows.add(name, "Ramachandran favoured, the source itself", source.ramachandran_favoured, "%", better="higher")
        largest = max(float(np.abs(_mapped(engine, r.positions) - y).max()) for r in results)
        rows.add(name, "beads reproduced, largest deviation in float64", largest, "nm", limit=1e-12)
        single = max(
            float(np.abs(np.float32(_mapped(engine, np.float32(r.positions))) - np.float32(y)).max()) for r in results
        )
        rows.add(name, "beads reproduced, largest deviation in float32", single, "nm", limit=2e-6)
        exact = sum(r.bead_mode == "exact" for r in results)
        rows.add(name, "frames whose beads were taken as exact", exact, "", better="higher", limit=options.seeds)
        _times(rows, name, "A", case, first, later, compiled, theirs)
        _structure(rows, name, case, results, theirs)
    if "E" in options.sections:
        samples(rows, f"E {case.name}, {options.samples} samples", case, engine, results[0], options.samples)
    if "C" in options.sections:
        openmm_view(rows, f"C {case.name}", case, results[0])


def simulation_frames(rows: Rows, case: Case, options, peer: Peer | None) -> None:
    """Section B: frames of a Martini 3 simulation, every one; with the backbone prior (default) and without."""
    frames = case.frames[: options.frames]
    theirs = peer.structures(case, [y for _, y in frames], "frames") if peer else []
    for prior, words in ((None, "default"), (0.0, "no backbone prior")):
        name = f"B {case.name}, {len(frames)} frames, {words}"
        engine, results, first, later, compiled = _run(case, frames, "auto", prior)
        ours = [judge(case, r.positions, y, engine.mapping) for r, (_, y) in zip(results, frames)]
        print(name, *(f"  frame {r.frame}: {_line(r, q, s)}" for r, q, s in zip(results, ours, later)), sep="\n")
        judged = [
            judge(case, t.positions, y, engine.mapping, heavy_only=True) for t, (_, y) in zip(theirs, frames) if t
        ]
        limits = FRAME_LIMITS if prior is None else None
        report(rows, name, ours, theirs=judged, peer="cg2at2", distances=False, limits=limits)
        soft = sum(r.bead_mode == "soft" for r in results)
        rows.add(name, "frames whose beads were taken as noisy", soft, "", better="higher", limit=len(frames))
        _structure(rows, name, case, results, theirs)
        _times(rows, name, "B", case, first, later, compiled, theirs)


def batches(rows: Rows, case: Case, options) -> None:
    """Section F: frames of a simulation one after another and in batches of the width that suits the device."""
    frames, engine, key = case.frames[: options.frames], Engine(case.molecule), jax.random.key(0)
    engine.prepare(engine.frame(*frames[0], key))

    def programs():
        return (engine.structure(number, y, jax.random.fold_in(key, number)) for number, y in frames)

    for words, width in (("one after another", 1), (f"in batches of {batch_width()}", batch_width())):
        name = f"F {case.name}, {len(frames)} frames, {words}"
        clocks, found = [], []
        for _ in range(2):  # the first time to compile
            start = time.perf_counter()
            found = list(together(programs(), width=width))
            clocks.append(time.perf_counter() - start)
        rows.add(name, "time per structure", clocks[1] / len(frames), "s")
        rows.add(name, "compilation, all frames", max(clocks[0] - clocks[1], 0.0), "s")
        rows.add(name, "defects, total", sum(sum(r.quality.errors.values()) for r in found), "", limit=0)
        rows.add(
            name,
            "Ramachandran favoured, mean",
            float(np.mean([r.quality.ramachandran_favoured for r in found])),
            "%",
            better="higher",
        )


def samples(rows: Rows, name: str, case: Case, engine: Engine, result: FrameResult, count: int) -> None:
    """Section E: samples of the posterior around one MAP structure, every one judged."""
    start = time.perf_counter()
    drawn = ensemble(engine, result, jax.random.key(0), count, lambda stage, done, total: None)
    seconds = time.perf_counter() - start
    largest = max(float(np.abs(_mapped(engine, x) - result.y).max()) for x in drawn.positions)
    rows.add(name, "beads reproduced by every sample, largest deviation in float64", largest, "nm", limit=1e-12)
    judged = [judge(case, x, result.y, engine.mapping) for x in drawn.positions]
    rows.add(name, "wrong stereo centres, total", sum(q.stereo_errors for q in judged), "", limit=0)
    rows.add(name, "cis peptides, total", sum(q.peptides_cis for q in judged), "", limit=0)
    rows.add(name, "pierced rings, total", sum(q.rings_pierced for q in judged), "", limit=0)
    favoured = float(np.mean([q.ramachandran_favoured for q in judged]))
    rows.add(name, "Ramachandran favoured, mean", favoured, "%", better="higher")
    rows.add(name, "acceptance, mean", float(np.mean(drawn.acceptance)), "", better="higher")
    rows.add(name, "divergent trajectories", int(np.sum(drawn.divergences)), "")
    rows.add(name, "time with starts and compilation", seconds, "s")
    print(name, f"  {drawn.verdict}", sep="\n")


def openmm_view(rows: Rows, name: str, case: Case, result: FrameResult) -> None:
    """Section C: energy parity, OpenMM's minimiser with the beads free, 20 ps of Langevin dynamics."""
    import mechanics

    x, heavy = result.positions, case.system.heavy
    system = case.molecule.openmm_system
    theirs = mechanics.energy(system, x)
    rows.add(name, "energy, relative difference from OpenMM", abs(result.energy / theirs - 1), "", limit=1e-5)
    relaxed = mechanics.minimised(system, x)
    moved = float(np.sqrt(np.mean(np.sum((relaxed - x)[heavy] ** 2, axis=1))))
    rows.add(name, "heavy atoms moved by OpenMM's minimiser, beads free, rms", moved, "nm", limit=0.1)
    run = mechanics.langevin(system, x)
    rows.add(name, "20 ps Langevin at 300 K: highest temperature", run.highest_temperature, "K", limit=400)
    after = judge(case, run.positions, result.y, case.molecule.mapping)
    rows.add(name, "20 ps Langevin at 300 K: wrong stereo centres after", after.stereo_errors, "", limit=0)
    rows.add(name, "20 ps Langevin at 300 K: cis peptides after", after.peptides_cis, "", limit=0)


def whole_commands(rows: Rows) -> None:
    """Section D: the first command of the README, with an empty compilation cache and with a warm one."""
    import command

    with tempfile.TemporaryDirectory() as folder:
        for words, limit in (("empty", 40.0), ("warm", 20.0)):
            arguments = ["backmap", "--example", "ubiquitin", "-o", f"out-{words}", "--quiet"]
            done = command.run(arguments, cwd=Path(folder), cache=Path(folder) / "cache")
            name = f"D jaxcg backmap --example ubiquitin, {words} compilation cache"
            rows.add(name, "exit code", done.code, "", limit=0)
            rows.add(name, "wall time", done.seconds, "s", limit=limit)
            rows.add(name, "largest memory", done.memory, "GB", limit=2.0)
            if done.code:
                print(done.tail)


def _run(case: Case, frames, beads: str, prior):
    """Every frame through one engine: engine, results, seconds of the first and of each again, compilations.

    The first frame is run twice: once to compile, once (with the same key) to be timed with the others.
    """
    start = time.perf_counter()
    engine = Engine(case.molecule, beads=beads, backbone_prior=prior)
    key = jax.random.key(0)
    # As the command does: the map with or without hydrogens, by the first structure.
    number, y = frames[0]
    engine, frame, _ = better_mapping(
        engine, engine.frame(number, y, key), lambda other: other.structure(number, y, key)
    )
    engine.prepare(frame)
    first = time.perf_counter() - start
    results, seconds = [], []
    counter = Compilations()
    for seed, (number, y) in enumerate(frames):
        start = time.perf_counter()
        results.append(engine.frame(number, y, jax.random.key(seed)))
        seconds.append(time.perf_counter() - start)
    return engine, results, first, seconds, counter.close()


def _times(rows: Rows, name: str, section: str, case: Case, first, later, compiled, theirs) -> None:
    wall = [t.seconds for t in theirs if t and t.seconds]
    peer_value = float(np.median(wall)) if wall else None
    limit = SECONDS[section].get(case.name)
    rows.add(
        name,
        "time per structure, median",
        float(np.median(later)),
        "s",
        peer="cg2at2",
        peer_value=peer_value,
        limit=limit,
    )
    rows.add(name, "time per structure, longest", float(max(later)), "s")
    rows.add(name, "first structure, with compilation", first, "s", peer="cg2at2", peer_value=peer_value)
    rows.add(name, "compilations after the first structure", compiled, "", limit=0)


def _structure(rows: Rows, name: str, case: Case, results, theirs) -> None:
    source = secondary_structure(case.system, case.reference)

    def agreement(structures) -> float:
        codes = [secondary_structure(case.system, x) for x in structures]
        return 100 * float(np.mean([np.mean(code == source) for code in codes]))

    peers = [t.positions for t in theirs if t]
    rows.add(
        name,
        "DSSP as in the source, mean",
        agreement([r.positions for r in results]),
        "%",
        better="higher",
        peer="cg2at2",
        peer_value=agreement(peers) if peers else None,
    )


def _mapped(engine: Engine, x: np.ndarray) -> np.ndarray:
    return engine.mapping.matrix().tocsr().astype(x.dtype) @ x


def _line(result: FrameResult, quality, seconds: float) -> str:
    wrong = ", ".join(f"{name} {count}" for name, count in quality.errors.items()) or "sound"
    return (
        f"{seconds:.2f} s, {result.bead_mode}, {result.repairs} repairs, {wrong}, favoured "
        f"{quality.ramachandran_favoured:.1f} %, outliers {quality.ramachandran_outlier:.1f} %, "
        f"E {result.energy:.0f}, heavy {quality.rmsd_heavy_fitted:.3f} nm, beads {quality.bead_rms:.3f} nm"
    )


def _heading(rows: Rows) -> list[str]:
    packages = ", ".join(f"{name} {number}" for name, number in rows.versions.items())
    return ["# Back-mapping", "", f"{date.today()}; {rows.device}; {packages}.", "", __doc__.split("\n\n")[-1].strip()]


def _options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="PATH", help="write the rows")
    parser.add_argument("--markdown", metavar="PATH", help="write the table")
    parser.add_argument("--sections", default="ABCDEF")
    parser.add_argument("--proteins", default=",".join(PROTEINS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--peer", action="store_true", help="run cg2at2 beside")
    parser.add_argument("--peer-home", default=str(DEFAULT_HOME), help="environment of the peer")
    parser.add_argument("--work", help="folder of the peer's runs; finished ones found there are not run again")
    return parser.parse_args()


if __name__ == "__main__":
    main()
