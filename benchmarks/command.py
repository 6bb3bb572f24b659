"""Wall time and memory of a whole `jaxcg` command, as a user would run it."""

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Finished:
    """A finished command: exit code, seconds, largest resident memory in GB, and the end of what it printed."""

    code: int
    seconds: float
    memory: float
    tail: str


def run(arguments: list[str], *, cwd: Path, cache: Path) -> Finished:
    """Runs ``jaxcg ARGUMENTS`` in ``cwd`` with every cache below ``cache`` (an empty folder: a cold start)."""
    program = Path(sys.executable).with_name("jaxcg")
    command = [str(program)] if program.exists() else [shutil.which("jaxcg") or "jaxcg"]
    # What this benchmark set for itself must not reach the command: its cache would be off.
    own = ("JAXCG_NO_CACHE", "XLA_FLAGS", "JAX_COMPILATION_CACHE_DIR")
    environment = {name: value for name, value in os.environ.items() if name not in own}
    environment["XDG_CACHE_HOME"] = str(cache)
    log = cwd / "command.log"
    start = time.perf_counter()
    with log.open("wb") as output:
        child = subprocess.Popen([*command, *arguments], cwd=cwd, env=environment, stdout=output, stderr=output)
        _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - start
    scale = 1 if sys.platform == "darwin" else 1024
    tail = log.read_text(errors="replace")[-2000:]
    return Finished(os.waitstatus_to_exitcode(status), seconds, usage.ru_maxrss * scale / 1e9, tail)
