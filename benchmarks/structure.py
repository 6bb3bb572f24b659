"""Radial distribution functions beside freud, csg_stat, gmx rdf, MDAnalysis and mdtraj; scaling and memory.

    python benchmarks/structure.py [--only one,two,scaling,gpu] [--points 10000] [--frames 10] [--most 1000000]
                                   [--no-peer] [--json rows.json] [--markdown rows.md]

Points of an ideal gas at 100/nm³ (10 000 in a box of 4.6416 nm), r_max 1 nm, 200 bins. Sections:
one      milliseconds for a frame on one core, everybody in a process of its own that may use no other;
two      the same on two cores: ours uses one of them, the peers that can use both;
scaling  by number of points up to --most: time, peak memory of the process, and freud up to a tenth of that;
gpu      all pairs compared on an accelerator, where there is one.

The frames of libraries are in memory, the median of --frames; those of the commands csg_stat (Debian package votca) and
gmx rdf (gromacs) are read from an xtc file, and a frame is the difference of runs over many and over few of them.
freud (BSD licence, on the package index) is installed into a folder of its own in the cache; MDAnalysis and mdtraj are
those of the environment. All find the same pairs: counts are compared before anything is timed.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
from rows import Rows, new_rows, peak_memory_gb
from sampling_problems import CACHE

HOME = CACHE.parent / "freud"
DENSITY, R_MAX, BINS = 100.0, 1.0, 200
#: Milliseconds for a frame of 10 000 points on the core where freud takes 300.
LIMIT = 200.0
PEERS = ("freud", "MDAnalysis self_capped_distance", "MDAnalysis InterRDF", "mdtraj")


def points(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Positions (n, 3) and box (3, 3) of an ideal gas, nm."""
    edge = (n / DENSITY) ** (1 / 3)
    x = np.random.default_rng(seed).uniform(0, edge, (n, 3)).astype(np.float32)
    return x, np.eye(3) * edge


def ours(x, box, cores: int) -> np.ndarray:
    """Pairs by distance, each once."""
    from jaxcg.consistency.structure import CellPairs, count_distances

    return count_distances(CellPairs(x, box, R_MAX), BINS)


def freud(x, box, cores: int) -> np.ndarray:
    """The same by freud."""
    sys.path.insert(0, str(HOME))
    import freud as library

    library.parallel.set_num_threads(cores)
    found = library.density.RDF(BINS, R_MAX)
    found.compute((library.box.Box.cube(float(box[0, 0])), x))
    return np.asarray(found.bin_counts) / 2


def capped(x, box, cores: int) -> np.ndarray:
    """The same by the fastest way of MDAnalysis."""
    from MDAnalysis.lib.distances import self_capped_distance

    angstrom = [*(10 * np.diag(box)), 90, 90, 90]
    _, distances = self_capped_distance(10 * x, 10 * R_MAX, box=np.array(angstrom, np.float32))
    return np.histogram(distances, BINS, (0, 10 * R_MAX))[0]


def inter_rdf(x, box, cores: int) -> np.ndarray:
    """The same by the class of MDAnalysis."""
    import MDAnalysis
    from MDAnalysis.analysis.rdf import InterRDF

    universe = MDAnalysis.Universe.empty(len(x), trajectory=True)
    universe.atoms.positions = 10 * x
    universe.dimensions = [*(10 * np.diag(box)), 90, 90, 90]
    found = InterRDF(universe.atoms, universe.atoms, nbins=BINS, range=(0, 10 * R_MAX), exclusion_block=(1, 1))
    return found.run().results.count / 2


def mdtraj(x, box, cores: int) -> np.ndarray:
    """The same by mdtraj, from its list of neighbours within r_max: a list of all pairs takes 1 GB and more."""
    import mdtraj as library

    frame = library.Trajectory(x[None], None, unitcell_lengths=[np.diag(box)], unitcell_angles=[[90.0] * 3])
    near = library.compute_neighborlist(frame, R_MAX)
    first = np.repeat(np.arange(len(x)), [len(one) for one in near])
    second = np.concatenate(near)
    pairs = np.stack([first, second], axis=1)[first < second]
    return np.histogram(library.compute_distances(frame, pairs)[0], BINS, (0, R_MAX))[0]


WAYS: dict[str, Callable] = {"ours": ours, **dict(zip(PEERS, (freud, capped, inter_rdf, mdtraj), strict=True))}


def timed(name: str, n: int, frames: int, cores: int) -> dict | None:
    """Median milliseconds, peak memory and pairs of one way in a process of its own, or None where it cannot run."""
    words = [sys.executable, __file__, "--child", name, str(n), str(frames), str(cores)]
    done = on_cores(words, cores, None)
    if done.returncode:
        print(f"{name}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def on_cores(words: list[str], cores: int, folder: Path | None) -> subprocess.CompletedProcess:
    """Runs a process that may use so many cores and no other."""
    settings = {
        "OMP_NUM_THREADS": str(cores),
        "OPENBLAS_NUM_THREADS": "1",
        "JAX_PLATFORMS": "cpu",
        "GMX_MAXBACKUP": "-1",
    }
    everything = os.sched_getaffinity(0)
    # A process starts with the cores of the one that starts it.
    os.sched_setaffinity(0, set(sorted(everything)[:cores]))
    try:
        return subprocess.run(
            words, cwd=folder, env={**os.environ, **settings}, capture_output=True, text=True, check=False
        )
    finally:
        os.sched_setaffinity(0, everything)


def child(name: str, n: int, frames: int, cores: int) -> None:
    """Prints what `timed` returns."""
    way = WAYS[name]
    counts = way(*points(min(n, 10_000)), cores)
    seconds = []
    for seed in range(frames):
        x, box = points(n, seed)
        start = time.perf_counter()
        way(x, box, cores)
        seconds.append(time.perf_counter() - start)
    found = {"ms": 1e3 * statistics.median(seconds), "gb": peak_memory_gb(), "pairs": float(np.sum(counts))}
    print(json.dumps(found))


def write_files(folder: Path, n: int, frames: int) -> None:
    """conf.gro and, with many frames and with few, the trajectories of the commands."""
    from MDAnalysis.lib.formats.libmdaxdr import XTCFile

    x, box = points(n)
    atoms = [f"{k % 99999 + 1:5d}SOL      A{k % 99999 + 1:5d}{a:8.3f}{b:8.3f}{c:8.3f}" for k, (a, b, c) in enumerate(x)]
    edges = "".join(f"{edge:10.5f}" for edge in np.diag(box))
    (folder / "conf.gro").write_text("\n".join(["points", f"{n:5d}", *atoms, edges]) + "\n")
    for name, length in (("few", 2), ("many", 2 + frames)):
        with XTCFile(str(folder / f"{name}.xtc"), "w") as handle:
            for k in range(length):
                handle.write(points(n, k)[0], box.astype(np.float32), k, float(k), 1000.0)
    block = f"<min>0</min><max>{R_MAX}</max><step>{R_MAX / BINS}</step>"
    text = f"<cg><non-bonded><name>A-A</name><type1>A</type1><type2>A</type2>{block}</non-bonded></cg>"
    (folder / "settings.xml").write_text(text)


def command(program: str, n: int, frames: int, cores: int) -> dict | None:
    """Milliseconds for a frame of csg_stat or gmx rdf."""
    if shutil.which(program.split()[0]) is None:
        return None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_files(folder, n, frames)
        seconds = {}
        for length in ("few", "many"):
            if program == "csg_stat":
                words = ["csg_stat", "--top", "conf.gro", "--trj", f"{length}.xtc", "--options", "settings.xml"]
                words += ["--nt", str(cores)]
            else:
                words = ["gmx", "rdf", "-s", "conf.gro", "-f", f"{length}.xtc", "-ref", "all", "-sel", "all"]
                words += ["-bin", str(R_MAX / BINS), "-rmax", str(R_MAX)]
            start = time.perf_counter()
            done = on_cores(words, cores, folder)
            seconds[length] = time.perf_counter() - start
            if done.returncode:
                print(f"{program}: {(done.stderr + done.stdout).strip().splitlines()[-1]}", file=sys.stderr)
                return None
    return {"ms": 1e3 * (seconds["many"] - seconds["few"]) / frames}


def cores_section(rows: Rows, options, cores: int) -> None:
    """Ours and everybody else's on so many cores."""
    case = f"{options.points} points, r_max {R_MAX:g} nm, {BINS} bins, {'one core' if cores == 1 else f'{cores} cores'}"
    mine = timed("ours", options.points, options.frames, cores)
    if mine is None:
        raise SystemExit("benchmark: ours did not run")
    limit = LIMIT if cores == 1 and options.points == 10_000 else None
    rows.add(case, "time of a frame", mine["ms"], "ms", limit=limit)
    if options.no_peer:
        return
    for name in PEERS if cores == 1 else PEERS[:1]:
        theirs = timed(name, options.points, max(3, options.frames // 3), cores)
        if theirs is not None:
            if abs(theirs["pairs"] - mine["pairs"]) > 20:
                raise SystemExit(f"benchmark: {name} finds {theirs['pairs']:.0f} pairs, ours {mine['pairs']:.0f}")
            rows.add(case, "time of a frame", mine["ms"], "ms", peer=name, peer_value=theirs["ms"])
    for program in ("csg_stat", "gmx rdf"):
        theirs = command(program, options.points, options.frames, cores)
        if theirs is not None:
            rows.add(case, "time of a frame", mine["ms"], "ms", peer=program, peer_value=theirs["ms"])


def scaling(rows: Rows, options) -> None:
    """Time and memory by number of points, one core."""
    n = 1000
    while n <= options.most:
        case = f"scaling, {n} points, one core"
        mine = timed("ours", n, 5 if n <= 10_000 else 1, 1)
        if mine is not None:
            peer = timed("freud", n, 3 if n <= 10_000 else 1, 1) if n < options.most and not options.no_peer else None
            rows.add(case, "time of a frame", mine["ms"], "ms", peer="freud", peer_value=peer and peer["ms"])
            limit = 4.0 if n == 1_000_000 else None
            rows.add(case, "peak memory", mine["gb"], "GB", limit=limit, peer="freud", peer_value=peer and peer["gb"])
        n *= 10


def gpu(rows: Rows, options) -> None:
    """All pairs compared on the device at hand."""
    import jax

    from jaxcg.consistency.structure import compared_counts

    if jax.default_backend() == "cpu":
        print("gpu: there is none here.", file=sys.stderr)
        return
    edges = np.linspace(0, R_MAX, BINS + 1)
    counted = jax.jit(lambda x, box: compared_counts(x, box, edges))
    for n in (10_000, 100_000):
        x, box = (jax.device_put(np.asarray(a, np.float32)) for a in points(n))
        seconds = []
        for _ in range(6):
            start = time.perf_counter()
            jax.block_until_ready(counted(x, box))
            seconds.append(time.perf_counter() - start)
        case = f"all pairs compared, {n} points, {jax.devices()[0].device_kind}"
        rows.add(case, "time of a frame", 1e3 * statistics.median(seconds[1:]), "ms")
        rows.add(case, "first call, compilation included", seconds[0], "s")


def main() -> int:
    """Runs the sections asked for."""
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], *(int(word) for word in sys.argv[3:6]))
        return 0
    sections = {
        "one": lambda rows, options: cores_section(rows, options, 1),
        "two": lambda rows, options: cores_section(rows, options, 2),
        "scaling": scaling,
        "gpu": gpu,
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(sections), help="sections, separated by commas")
    parser.add_argument("--points", type=int, default=10_000)
    parser.add_argument("--frames", type=int, default=10)
    parser.add_argument("--most", type=int, default=1_000_000, help="points of the last row of scaling")
    parser.add_argument("--no-peer", action="store_true", help="leave the peers' columns empty")
    parser.add_argument("--json", metavar="PATH")
    parser.add_argument("--markdown", metavar="PATH")
    options = parser.parse_args()
    wanted = options.only.split(",")
    unknown = [name for name in wanted if name not in sections]
    if unknown:
        parser.error(f"no such section: {', '.join(unknown)}; there are {', '.join(sections)}")
    if not options.no_peer and not (HOME / "freud").exists():
        words = ["-m", "pip", "install", "-q", "--no-deps", "--target", str(HOME)]
        packages = ["freud-analysis==3.4.0", "rowan", "parsnip-cif", "more-itertools"]
        subprocess.run([sys.executable, *words, *packages], check=False)
    rows = new_rows()
    for name in wanted:
        sections[name](rows, options)
    packages = ", ".join(f"{name} {number}" for name, number in rows.versions.items())
    heading = ["# Radial distribution functions", "", f"{date.today()}; {rows.device}; {packages}.", ""]
    lines = [*heading, (__doc__ or "").split("\n\n")[-1].strip(), *rows.lines()]
    print("\n".join(lines))
    if options.markdown:
        Path(options.markdown).write_text("\n".join(lines) + "\n")
    if options.json:
        rows.write(options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
