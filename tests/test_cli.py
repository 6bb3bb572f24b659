"""The command line: what it parses, refuses, writes and leaves alone."""

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from jaxcg.cli import main
from jaxcg.cli.backmap import OUTPUTS
from jaxcg.cli.main import build_parser
from jaxcg.cli.staging import StagedFolder
from jaxcg.errors import InputError

ROOT = Path(__file__).parents[1]


def parse(*words: str):
    return build_parser().parse_args(["backmap", *words])


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out.strip() == f"jaxcg {version('jaxcg')}"


def test_help_names_the_verb_and_the_exit_codes(capsys):
    assert main([]) == 0
    text = capsys.readouterr().out
    assert "backmap" in text
    assert "exit codes" in text


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom jaxcg.cli import main\n"
        "try:\n main(['backmap', '--help'])\nexcept SystemExit: pass\n"
        "heavy = {'jax', 'equinox', 'openmm', 'MDAnalysis', 'vermouth', 'biotite', 'matplotlib', 'scipy', 'numpy'}\n"
        "found = heavy & set(sys.modules)\nassert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_documentation_names_every_option():
    parser = build_parser()
    verbs = next(action for action in parser._actions if action.choices and "backmap" in action.choices)
    text = (ROOT / "docs" / "cli.md").read_text()
    for action in verbs.choices["backmap"]._actions:
        for option in action.option_strings:
            if option not in ("-h", "--help"):
                assert f"`{option}" in text, option


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "--example"),
        (("a.pdb", "--example", "villin"), "either"),
        (("nowhere.pdb",), "nowhere.pdb: there is no such file"),
        ((".",), "is a folder"),
        (("--example", "titin"), "titin"),
        (("--example", "villin", "--frames", "0:3"), "has none"),
        (("--example", "villin", "--frames", "0:3:0"), "step of 0"),
        (("--example", "villin", "--frames", "one"), "A:B:C"),
        (("--example", "villin", "--trajectory", __file__), "own files"),
        (("--example", "villin", "--beads", "firm"), "firm"),
        (("--example", "villin", "--beads", "exact", "--bead-noise", "0.03"), "--bead-noise"),
        (("--example", "villin", "--bead-noise", "-1"), "above zero"),
        (("--example", "villin", "--temperature", "nan"), "not finite"),
        (("--example", "villin", "--samples", "-1"), "below zero"),
        (("--example", "villin", "--samples", "2.5"), "whole number"),
        (("--example", "villin", "--seed", str(2**32)), "4294967295"),
        (("--example", "villin", "--start-from-reference"), "--reference"),
        (("--example", "villin", "--reference", "nowhere.pdb"), "nowhere.pdb"),
        (("--example", "villin", "--sample", "3"), "--sample"),
    ],
)
def test_bad_options_give_one_line_and_write_nothing(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["backmap", *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("jaxcg: ")
    assert said in captured.err
    assert list(tmp_path.iterdir()) == []


def test_json_says_what_was_wrong(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["backmap", "nowhere.pdb", "--json"]) == 2
    told = json.loads(capsys.readouterr().out)
    assert told["exit_code"] == 2
    assert "nowhere.pdb" in told["error"]


def test_unknown_verb(capsys):
    assert main(["foremap"]) == 2
    assert "foremap" in capsys.readouterr().err


def test_staged_folder_shows_all_files_or_none(tmp_path):
    target = tmp_path / "deep" / "out"
    with StagedFolder(target, OUTPUTS) as folder:
        (folder.path / "map.pdb").write_text("atoms")
        (folder.path / "report.json").write_text("{}")
        assert not target.exists()
        folder.commit(last="report.json")
    assert sorted(os.listdir(target)) == ["map.pdb", "report.json"]
    assert sorted(os.listdir(tmp_path)) == ["deep"]


def test_staged_folder_leaves_nothing_after_an_error(tmp_path):
    def fail():
        with StagedFolder(tmp_path / "out", OUTPUTS) as folder:
            (folder.path / "map.pdb").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_staged_folder_replaces_an_earlier_run_and_its_leftovers(tmp_path):
    for name in ("map.pdb", "ensemble.xtc", "report.json"):
        (tmp_path / name).write_text("old")
    with StagedFolder(tmp_path, OUTPUTS) as folder:
        (folder.path / "map.pdb").write_text("new")
        (folder.path / "report.json").write_text("new")
        folder.commit(last="report.json")
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"map.pdb": "new", "report.json": "new"}


def test_staged_folder_refuses_a_folder_with_other_files(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(InputError, match="--force"):
        StagedFolder(tmp_path, OUTPUTS)
    with StagedFolder(tmp_path, OUTPUTS, force=True) as folder:
        (folder.path / "report.json").write_text("{}")
        folder.commit(last="report.json")
    assert (tmp_path / "thesis.tex").read_text() == "precious"


def test_staged_folder_refuses_a_file(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(InputError, match="not a folder"):
        StagedFolder(tmp_path / "out", OUTPUTS)


@pytest.mark.skipif(os.geteuid() == 0 if hasattr(os, "geteuid") else True, reason="root may write anywhere")
def test_staged_folder_refuses_a_folder_it_cannot_write(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="cannot be written"), StagedFolder(tmp_path / "out", OUTPUTS):
        pass
