"""The README says what is true: its commands, its links and its Python."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_two_commands_stand_alone():
    commands = re.findall(r"^pip install .*$", README, re.M)
    assert commands == ["pip install . && jaxcg backmap --example ubiquitin", "pip install '.[test]' && pytest"]


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / page).read_text()):
        assert target.startswith("http") or (ROOT / target).exists(), target


def test_example_commands_parse():
    from jaxcg.cli.main import build_parser

    commands = re.findall(r"^jaxcg (backmap .*)$", README, re.M)
    assert commands
    for command in commands:
        build_parser().parse_args(command.split())


@pytest.mark.slow
def test_python_example_runs(tmp_path, monkeypatch, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len([line for line in code.splitlines() if line.strip()]) <= 15
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    assert (tmp_path / "map.pdb").stat().st_size > 0
    assert "stereo" in capsys.readouterr().out
