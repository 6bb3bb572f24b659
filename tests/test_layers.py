"""The house keeps its order: imports go down only, third-party packages stay at the rim, files stay short."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "jaxcg"
#: Rooms from the ground up; a room may import from lower floors and from itself.
FLOORS = (
    ("errors", "units", "typing"),
    ("random", "system", "space", "neighbors", "batching", "lockstep", "data"),
    ("energy", "mapping"),
    ("posterior", "run"),
    ("chains",),
    ("sampling", "dynamics"),
    ("backmap", "consistency"),
    ("fit",),
    ("io",),
    ("report",),
    ("cli",),
)
#: Doors to the rim from below, which reach for it when they are called. The pipeline from files to structures composes
#: the rooms.
DOORS = {
    "backmap/pipeline.py": {"io"},
    # Free energies of several states are solved by pymbar, which only io may import.
    "consistency/free_energy/acceptance_ratio.py": {"io"},
    "consistency/free_energy/multistate.py": {"io"},
}
#: The rooms of dynamics, from the ground up.
DYNAMICS = ("kernels", "motion", "extraction", "observables")
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
#: Packages that only the rim may import, and the rim.
GUESTS = (
    "openmm",
    "MDAnalysis",
    "vermouth",
    "biotite",
    "matplotlib",
    "rich",
    "typer",
    "jinja2",
    "mdtraj",
    "arviz",
    "pymbar",
)
RIM = ("io", "cli", "report", "mapping/formats")
MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
#: Modules below the rim: what a worker or a bare GPU machine needs.
INNER = [m for m in MODULES if not m.startswith(tuple(f"{room}/" for room in RIM))]


def _imports(module: str, *, runtime_only: bool = False):
    """Absolute dotted names that a module imports, wherever in it."""
    tree = ast.parse((PACKAGE / module).read_text())
    package = ("jaxcg", *Path(module).parent.parts)
    skipped = set()
    if runtime_only:
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                skipped.update(id(inner) for statement in node.body for inner in ast.walk(statement))
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join((*above, *(node.module.split(".") if node.module else ())))
            yield from ((base,) if base != "jaxcg" else (f"jaxcg.{alias.name}" for alias in node.names))


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down_only(module):
    room = module.split("/")[0].removesuffix(".py")
    if room == "__init__":
        return
    for name in _imports(module, runtime_only=True):
        if name.startswith("jaxcg."):
            other = name.split(".")[1]
            if other == room or other not in FLOOR or other in DOORS.get(module, ()):
                continue
            assert FLOOR[other] < FLOOR[room] or (FLOOR[other] == FLOOR[room] and FLOOR[room] < 2), (
                f"jaxcg/{module} imports {name}, which is not below it"
            )


@pytest.mark.parametrize("module", [m for m in MODULES if m.count("/") == 2 and m.startswith("dynamics/")])
def test_imports_within_dynamics_go_down_only(module):
    floor = DYNAMICS.index(module.split("/")[1])
    for name in _imports(module, runtime_only=True):
        if name.startswith("jaxcg.dynamics."):
            assert DYNAMICS.index(name.split(".")[2]) <= floor, f"jaxcg/{module} imports {name}, which is not below it"


def test_every_room_has_a_floor():
    rooms = {module.split("/")[0].removesuffix(".py") for module in MODULES} - {"__init__", "__main__"}
    assert rooms <= FLOOR.keys()


@pytest.mark.parametrize("module", INNER)
def test_guests_stay_at_the_rim(module):
    guests = {name.split(".")[0] for name in _imports(module)} & set(GUESTS)
    assert not guests, f"jaxcg/{module} imports {guests}"


def test_everything_below_the_rim_imports_without_the_guests():
    names = [f"jaxcg.{m.removesuffix('.py').removesuffix('/__init__').replace('/', '.')}" for m in INNER]
    names = [name.removesuffix(".__init__") for name in names]
    script = (
        "import importlib, sys\n"
        f"for name in {GUESTS!r}: sys.modules[name] = None\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_importing_leaves_jax_as_it_was():
    script = (
        "import jax, sys\n"
        "before = {k: getattr(jax.config, k) for k in ('jax_enable_x64', 'jax_platforms', 'jax_debug_nans')}\n"
        "import jaxcg, jaxcg.energy, jaxcg.backmap.quality, jaxcg.sampling\n"
        "after = {k: getattr(jax.config, k) for k in before}\n"
        "assert before == after, (before, after)\n"
        f"heavy = [name for name in {GUESTS!r} if name in sys.modules]\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("module", [m for m in MODULES if not m.startswith("cli/")])
def test_only_the_command_line_configures_jax(module):
    assert "jax.config.update" not in (PACKAGE / module).read_text()


@pytest.mark.parametrize("module", MODULES)
def test_files_stay_short(module):
    lines = (PACKAGE / module).read_text().count("\n")
    assert lines <= 420, f"jaxcg/{module} has {lines} lines; split it by idea"


def test_no_paths_of_a_developers_machine():
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    files = done.stdout.split() if done.returncode == 0 else MODULES
    pattern = re.compile(r"(?<![\w./])/(?:home|root|work|Users|mnt)/[\w.-]+")
    found = []
    for name in files:
        path = ROOT / name
        if (
            path.suffix in (".py", ".md", ".toml", ".yml", ".yaml", ".sh", ".ipynb", ".json", ".html", ".txt", "")
            and path.is_file()
        ):
            found += [f"{name}: {match}" for match in pattern.findall(path.read_text(errors="ignore"))]
    assert not found, found[:5]
