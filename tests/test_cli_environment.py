"""What the command line sets up, and shows while it runs."""

import io
import json
import os
import subprocess
import sys

import pytest

from jaxcg.cli.environment import cache_folder
from jaxcg.cli.progress import Progress

_REPORT = """
import json, os
from jaxcg.cli.environment import configure_jax
configure_jax()
import jax
print(json.dumps({
    "x64": jax.config.jax_enable_x64,
    "cache": jax.config.jax_compilation_cache_dir,
    "flags": os.environ["XLA_FLAGS"],
    "devices": len(jax.devices("cpu")),
}))
"""


def configured(**variables) -> dict:
    kept = {
        k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "JAXCG_NO_CACHE", "JAX_COMPILATION_CACHE_DIR")
    }
    environment = {**kept, "JAX_PLATFORMS": "cpu", **variables}
    done = subprocess.run([sys.executable, "-c", _REPORT], env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_double_precision_cache_and_cores(tmp_path):
    found = configured(XDG_CACHE_HOME=str(tmp_path))
    assert found["x64"]
    assert found["cache"].startswith(str(tmp_path / "jaxcg"))
    assert os.path.isdir(found["cache"])
    assert found["devices"] == len(os.sched_getaffinity(0))


def test_what_the_user_set_stays(tmp_path):
    flags = "--xla_force_host_platform_device_count=3 --xla_cpu_prefer_vector_width=256"
    found = configured(XDG_CACHE_HOME=str(tmp_path), JAXCG_NO_CACHE="1", XLA_FLAGS=flags)
    assert found["cache"] is None
    assert (found["flags"], found["devices"]) == (flags, 3)
    assert not list(tmp_path.iterdir())


def test_cache_that_cannot_be_made_costs_nothing_but_time(tmp_path):
    (tmp_path / "jaxcg").write_text("a file where the folder would be")
    assert configured(XDG_CACHE_HOME=str(tmp_path))["cache"] is None


def test_cache_folder_is_of_the_user_and_the_processor(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder().parent == tmp_path / "jaxcg"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder().parent == tmp_path / ".cache" / "jaxcg"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("stream", "quiet"), [(Terminal, False), (io.StringIO, False), (io.StringIO, True)])
def test_progress_names_every_stage_and_keeps_its_time(stream, quiet, monkeypatch):
    shown = stream()
    monkeypatch.setattr(sys, "stderr", shown)
    with Progress(quiet=quiet) as progress:
        progress("building", 0, 1)
        progress("sampling", 0, 10)
        progress("sampling", 10, 10)
        progress("building", 0, 1)
    assert list(progress.seconds) == ["building", "sampling"]
    assert all(seconds >= 0 for seconds in progress.seconds.values())
    for stage in ("building", "sampling"):
        assert (stage in shown.getvalue()) != quiet


def test_progress_of_a_run_that_fails_does_not_claim_the_stage(monkeypatch):
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stderr", shown)

    def fail():
        with Progress() as progress:
            progress("sampling", 0, 10)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert shown.getvalue() == ""


_ORDER = """
import sys
from importlib import import_module
module = import_module(f"jaxcg.cli.{sys.argv[1]}")
module.configure_jax = lambda: sys.exit(9 if "jax" in sys.modules else 7)
from jaxcg.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    "words",
    [
        ["memory", "data.csv", "--temperature", "300", "-o", "out"],
        ["gle", "config.yaml", "-o", "out"],
        ["map", "a.pdb", "-o", "b.pdb"],
        ["backmap", "--example", "villin", "-o", "out"],
    ],
    ids=lambda words: words[0],
)
def test_a_verb_sets_jax_up_before_it_imports_it(words, tmp_path):
    # What XLA reads when it is loaded (what it logs, say) would come too late.
    for name in ("data.csv", "config.yaml", "a.pdb"):
        (tmp_path / name).write_text("x\n")
    done = subprocess.run(
        [sys.executable, "-c", _ORDER, *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 7, done.stderr
