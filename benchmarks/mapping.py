"""Forward maps: in memory (A), whole commands (B), memory (C), parity with csg_map (D).

    python benchmarks/mapping.py [--json PATH] [--markdown PATH] [--sections ABCD] [--atoms 100000] [--frames 100]
                                 [--command-frames 1000] [--large 1000000]

Prints a table of every figure with what it must reach, beside those of VOTCA's csg_map (Debian packages votca and
votca-tutorials, for parity also gromacs) and of a loop of MDAnalysis' center_of_mass. A ratio above 1 means ours is
ahead. Commands are timed as a user runs them, start-up and reading of files included, the best of three; csg_map's time
per frame in A is the difference of two runs of other lengths. Compilation is given apart.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

os.environ["JAXCG_NO_CACHE"] = "1"  # compilation is measured
from jaxcg.cli.environment import configure_jax

configure_jax()

import command
import csg_map
import jax
import numpy as np
import water_box
from MDAnalysis.lib.formats.libmdaxdr import XTCFile
from rows import Rows, new_rows, peak_memory_gb

from jaxcg.io.map_trajectory import available_processors, map_trajectory
from jaxcg.io.trajectories import open_trajectory
from jaxcg.mapping import LinearMap
from jaxcg.mapping.formats.model import Atoms, CoarseModel
from jaxcg.mapping.many_frames import FrameMapper, map_frames
from jaxcg.space import BondWalk

#: What csg_map and MDAnalysis must be beaten by in memory.
AIM_CSG_MAP, AIM_MDANALYSIS = 20.0, 5.0


def main() -> None:
    options = _options()
    if options.child:
        _child(options)
        return
    rows, peer = new_rows(), csg_map.available()
    if peer:
        rows.versions["csg_map"] = peer
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # What measures the memory of other processes comes first: they count what this one had when it started them.
        if "C" in options.sections:
            memory(rows, folder, options)
        if set(options.sections) & set("AB"):
            water_box.write_topology(folder, options.atoms // 3)
        if "B" in options.sections:
            whole_commands(rows, folder, options, bool(peer))
        if "D" in options.sections:
            parity(rows, folder, bool(peer))
        if "A" in options.sections:
            in_memory(rows, folder, options, bool(peer))
    text = "\n".join(_heading(rows) + rows.lines()) + "\n"
    print(text)
    if options.json:
        rows.write(options.json)
    if options.markdown:
        Path(options.markdown).write_text(text)
    missed = [f"{row['case']}: {row['metric']}" for row in rows.rows if row["met"] is False]
    print(f"{sum(row['met'] is True for row in rows.rows)} aims met, {len(missed)} missed", *missed, sep="\n  ")


def in_memory(rows: Rows, folder: Path, options, peer: bool) -> None:
    """Section A: frames in memory, one bead for a molecule."""
    n = options.atoms // 3
    name = f"A {3 * n} atoms, {options.frames} frames in memory"
    found = list(water_box.frames(n, options.frames))
    x, edge = np.stack([frame for frame, _ in found]), found[0][1]
    masses = np.tile([15.999, 1.008, 1.008], n)
    bonds = (3 * np.arange(n)[:, None, None] + np.array([[0, 1], [0, 2]])).reshape(-1, 2)
    boxes = np.broadcast_to(np.eye(3, dtype=np.float32) * edge, (len(x), 3, 3))
    mapping = LinearMap.center_of_mass(np.arange(3 * n).reshape(-1, 3), masses)
    walk = BondWalk.of(bonds, 3 * n)

    per_frame = _csg_map_per_frame(folder, n, options) if peer else None
    on_device = jax.device_put(x)
    for words, whole in (("as they are", False), ("made whole first", True)):
        case = f"{name}, molecules {words}"
        walked, box = (walk, boxes) if whole else (None, None)
        start = time.perf_counter()
        compiled = jax.block_until_ready(map_frames(mapping, on_device, box, walked))
        first = time.perf_counter() - start
        later = _best(_timing(lambda b=box, w=walked: jax.block_until_ready(map_frames(mapping, on_device, b, w))))
        host = FrameMapper(mapping, bonds if whole else None)
        sparse = _best(_timing(lambda h=host: _on_threads(h, x, boxes)))
        theirs = _mdanalysis_loop(x, edge, bonds, whole=whole)
        rows.add(case, "compilation", max(first - later, 0.0), "s")
        _against(rows, case, "compiled map", 1e3 * later / len(x), theirs, per_frame)
        _against(rows, case, "sparse product on the host", 1e3 * sparse / len(x), theirs, per_frame)
        difference = float(np.abs(host(x, boxes) - np.asarray(compiled)).max())
        rows.add(case, "largest difference of the two", difference, "nm", limit=4e-6)


def whole_commands(rows: Rows, folder: Path, options, peer: bool) -> None:
    """Section B: the command on the same files as csg_map."""
    n = options.atoms // 3
    counts = {"xtc": options.command_frames, "trr": max(options.command_frames // 2, 1)}
    water_box.write_xtc(folder / "all.xtc", n, counts["xtc"])
    water_box.write_trr(folder / "all.trr", n, counts["trr"])
    for ending, forces in (("xtc", False), ("trr", False), ("trr", True)):
        case = f"B {3 * n} atoms, {counts[ending]} frames, {ending.upper()}{' with forces' if forces else ''}"
        words = ["map", f"all.{ending}", "--topology", "water.gro", "--mapping", "water.xml", "--quiet"]
        words += ["-o", f"ours.{ending}", *(("--force-map", "basic") if forces else ())]
        runs = [command.run(words, cwd=folder, cache=folder / "cache") for _ in range(3)]
        rows.add(case, "exit code", max(run.code for run in runs), "", limit=0)
        if any(run.code for run in runs):
            print(runs[-1].tail)
            continue
        theirs = None
        if peer:
            more = ("--force",) if forces else ()
            theirs = _best(lambda e=ending, m=more: _csg_map(folder, f"all.{e}", f"theirs.{e}", *m))
        rows.add(
            case, "wall time", min(run.seconds for run in runs), "s", peer="csg_map", peer_value=theirs, limit=theirs
        )
        rows.add(case, "largest memory", max(run.memory for run in runs), "GB")
        if peer:
            _compare(rows, case, folder, ending, counts[ending], forces)


def _compare(rows: Rows, case: str, folder: Path, ending: str, count: int, forces: bool) -> None:
    """The first and the last frame of both programs."""
    ours, theirs = (open_trajectory(folder / f"{who}.{ending}").read([0, count - 1]) for who in ("ours", "theirs"))
    edge = ours.boxes[0, 0, 0]
    apart = ours.positions - theirs.positions
    apart = np.abs(apart - edge * np.round(apart / edge)).max()
    rows.add(case, "largest difference", float(apart), "nm", limit=1.1e-3 if ending == "xtc" else 4e-6)
    if forces:
        relative = np.abs(ours.forces - theirs.forces).max() / np.abs(theirs.forces).max()
        rows.add(case, "largest difference of forces, relative", float(relative), "", limit=1e-5)


def memory(rows: Rows, folder: Path, options) -> None:
    """Section C: peak memory of streaming a large system, in processes of their own."""
    n_atoms, n_beads = options.large, options.large // 10
    case = f"C {n_atoms} atoms, {n_beads} beads, frames streamed"
    counts = (4, 16)
    for count in counts:
        _write_large(folder / f"large-{count}.xtc", n_beads, count)
        words = [sys.executable, __file__, "--child", str(count), "--large", str(n_atoms), "--work", str(folder)]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        before, after, seconds = map(float, done.stdout.split()[-3:])
        rows.add(case, f"peak memory, {count} frames", after, "GB", limit=4.0)
        rows.add(case, f"of it before the first frame (program, atoms, map), {count} frames", before, "GB")
        rows.add(case, f"time per frame, {count} frames", seconds / count, "s")
    rows.add(case, "a dense matrix would take", 8e-9 * n_atoms * n_beads, "GB")


def parity(rows: Rows, folder: Path, peer: bool) -> None:
    """Section D: VOTCA's tutorial systems, the same files through both programs, in single precision (TRR)."""
    for name in csg_map.SYSTEMS if peer else ():
        here = folder / name
        found = csg_map.tutorial(name, here)
        if found is None or found[1]:
            print(f"D {name}: no comparison ({found[1] if found else 'votca-tutorials or gromacs is not installed'})")
            continue
        mapping = ";".join(str(here / part) for part in found[0].split(";"))
        csg_map.run(here, "topol.tpr", "conf.gro", found[0], "theirs.trr")
        done = map_trajectory(here / "conf.gro", here / "ours.trr", topology=here / "topol.tpr", mapping=mapping)
        ours, theirs = (open_trajectory(here / f"{who}.trr").read([0]) for who in ("ours", "theirs"))
        case = f"D {name}"
        rows.add(case, "beads", done.beads, "", peer="csg_map", peer_value=theirs.positions.shape[1])
        apart = (ours.positions - theirs.positions)[0].astype(np.float64)
        box = ours.boxes[0].astype(np.float64)
        apart = apart - np.round(apart @ np.linalg.inv(box)) @ box
        rows.add(case, "largest difference", float(np.abs(apart).max()), "nm", limit=2e-6)


def _against(rows: Rows, case: str, metric: str, value: float, mdanalysis: float | None, csg: float | None) -> None:
    for peer, other, aim in (("MDAnalysis", mdanalysis, AIM_MDANALYSIS), ("csg_map", csg, AIM_CSG_MAP)):
        if other is not None:
            rows.add(
                case, f"{metric}, a frame", value, "ms", peer=peer, peer_value=1e3 * other, limit=1e3 * other / aim
            )
    if mdanalysis is None and csg is None:
        rows.add(case, f"{metric}, a frame", value, "ms")


def _on_threads(mapper: FrameMapper, x: np.ndarray, boxes: np.ndarray) -> list[np.ndarray]:
    """Maps blocks of frames side by side."""
    with ThreadPoolExecutor(available_processors()) as pool:
        return list(pool.map(lambda k: mapper(x[k : k + 10], boxes[k : k + 10]), range(0, len(x), 10)))


def _mdanalysis_loop(x: np.ndarray, edge: float, bonds: np.ndarray, *, whole: bool) -> float:
    """Seconds per frame of ``center_of_mass(compound="residues")`` over a trajectory in memory."""
    import MDAnalysis
    from MDAnalysis.coordinates.memory import MemoryReader

    molecules = x.shape[1] // 3
    universe = MDAnalysis.Universe.empty(
        3 * molecules, n_residues=molecules, atom_resindex=np.repeat(np.arange(molecules), 3), trajectory=True
    )
    universe.add_TopologyAttr("masses", np.tile([15.999, 1.008, 1.008], molecules))
    if whole:
        universe.add_TopologyAttr("bonds", bonds.tolist())
        x = x[:3]  # it takes seconds for each
    sides = [10 * edge] * 3 + [90.0] * 3
    universe.load_new(10 * x, format=MemoryReader, dimensions=np.tile(sides, (len(x), 1)))
    start = time.perf_counter()
    for _ in universe.trajectory:
        universe.atoms.center_of_mass(compound="residues", unwrap=whole)
    return (time.perf_counter() - start) / len(x)


def _child(options) -> None:
    """The process of section C: prints peak memory before and after, GB, and seconds."""
    n_atoms, n_beads = options.large, options.large // 10
    atoms, model = _large_system(n_atoms, n_beads)
    path = Path(options.work) / f"large-{options.child}.xtc"
    before, start = peak_memory_gb(), time.perf_counter()
    map_trajectory(path, path.with_suffix(".trr"), topology=atoms, mapping=model)
    print(before, peak_memory_gb(), time.perf_counter() - start)


def _write_large(path: Path, chains: int, count: int) -> None:
    """Frames of chains of ten atoms, cut by the box."""
    rng, edge = np.random.default_rng(0), 22.0 * (chains / 1e5) ** (1 / 3)
    with XTCFile(str(path), "w") as file:
        for k in range(count):
            x = (rng.uniform(size=(chains, 1, 3)) * edge + rng.normal(size=(chains, 10, 3)) * 0.1).reshape(-1, 3)
            file.write(np.mod(x, edge).astype(np.float32), np.eye(3, dtype=np.float32) * edge, k, float(k))


def _large_system(n_atoms: int, n_beads: int) -> tuple[Atoms, CoarseModel]:
    """Chains of ten atoms, each a residue, a molecule and a bead."""
    index = np.arange(n_atoms)
    chain = index // 10
    bonds = np.stack([index[:-1], index[1:]], axis=1)[chain[:-1] == chain[1:]]
    labels = ("POL",) * n_beads
    atoms = Atoms(
        names=("C",) * n_atoms,
        elements=("C",) * n_atoms,
        masses=np.full(n_atoms, 12.011),
        residue=chain,
        residue_names=labels,
        residue_ids=tuple(map(str, range(1, n_beads + 1))),
        chain_ids=("",) * n_beads,
        bonds=bonds,
        molecule=chain,
        molecule_names=labels,
        path="made",
    )
    mapping = LinearMap.from_weights(chain, index, np.full(n_atoms, 0.1), n_beads, n_atoms)
    masses = np.full(n_beads, 120.11)
    return atoms, CoarseModel(mapping, labels, labels, labels, atoms.residue_ids, atoms.chain_ids, masses)


def _csg_map(folder: Path, trajectory: str, output: str, *more: str) -> float:
    return csg_map.run(folder, "topology.xml", trajectory, "water.xml", output, *more)


def _csg_map_per_frame(folder: Path, molecules: int, options) -> float | None:
    """Seconds csg_map takes for a frame, reading and writing XTC included: runs of two lengths, subtracted."""
    times = {}
    for count in (max(options.frames // 5, 1), options.frames):
        water_box.write_xtc(folder / f"{count}.xtc", molecules, count)
        times[count] = _best(lambda c=count: _csg_map(folder, f"{c}.xtc", "peer.xtc"))
    (less, before), (more, after) = times.items()
    return (after - before) / (more - less) if after > before else None


def _timing(call):
    """A function that calls ``call`` and returns the seconds it took."""

    def timed() -> float:
        start = time.perf_counter()
        call()
        return time.perf_counter() - start

    return timed


def _best(measure, times: int = 3) -> float:
    return min(measure() for _ in range(times))


def _heading(rows: Rows) -> list[str]:
    packages = ", ".join(f"{name} {number}" for name, number in rows.versions.items())
    return ["# Forward maps", "", f"{date.today()}; {rows.device}; {packages}.", "", __doc__.split("\n\n")[-1].strip()]


def _options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="PATH", help="write the rows")
    parser.add_argument("--markdown", metavar="PATH", help="write the table")
    parser.add_argument("--sections", default="ABCD")
    parser.add_argument("--atoms", type=int, default=100_000, help="of the water box")
    parser.add_argument("--frames", type=int, default=100, help="in memory")
    parser.add_argument("--command-frames", type=int, default=1000, help="in the files")
    parser.add_argument("--large", type=int, default=1_000_000, help="atoms of section C")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--child", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
