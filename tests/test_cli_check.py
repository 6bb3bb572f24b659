"""`jaxcg check`: right and wrong models are told apart, numbers are those of closed forms, bad input is refused."""

import json
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from MDAnalysis.lib.formats.libmdaxdr import TRRFile, XTCFile

from jaxcg.cli import main
from jaxcg.cli.check import OUTPUTS, SETTINGS
from jaxcg.cli.main import build_parser
from jaxcg.consistency.statistics import Estimate
from jaxcg.consistency.structure import RadialAccumulator
from jaxcg.errors import InputError
from jaxcg.io.consistency.check import CheckSettings, check_model
from jaxcg.io.consistency.compare import compare_radial
from jaxcg.io.consistency.coordinates import bonded_groups, chosen_pairs
from jaxcg.io.consistency.ensembles import BeadTable, matched, read_model, read_reference, selected
from jaxcg.io.consistency.potentials import PairTable
from jaxcg.io.consistency.pressures import pressure_of, simulated_states
from jaxcg.io.consistency.states import StateTable
from jaxcg.report.consistency_summary import overall
from jaxcg.units import BAR, GAS_CONSTANT

EDGE, FRAMES, CHAINS, WATERS = 2.4, 40, 12, 40
NAMES = ("A", "B", "B", "A")


@cache
def chains(seed, length=0.35):
    """(frames, beads, 3) freely jointed chains of four beads, bonds of normal length, every frame independent."""
    rng = np.random.default_rng(seed)
    x = np.zeros((FRAMES, CHAINS, 4, 3))
    x[:, :, 0] = rng.uniform(0, EDGE, (FRAMES, CHAINS, 3))
    for bead in range(1, 4):
        step = rng.normal(size=(FRAMES, CHAINS, 3))
        step *= rng.normal(length, 0.02, (FRAMES, CHAINS, 1)) / np.linalg.norm(step, axis=-1, keepdims=True)
        x[:, :, bead] = x[:, :, bead - 1] + step
    return x.reshape(FRAMES, -1, 3)


def write_xtc(path, x, edge=EDGE):
    box = np.eye(3, dtype=np.float32) * edge
    with XTCFile(str(path), "w") as file:
        for number, frame in enumerate(x):
            folded = np.mod(frame, edge) if edge else frame
            file.write(folded.astype(np.float32), box, number, float(number), precision=1e5)


def write_trr(path, x):
    with TRRFile(str(path), "w") as file:
        for number, frame in enumerate(x):
            box = np.eye(3, dtype=np.float32) * EDGE
            file.write(frame.astype(np.float32), None, None, box, number, float(number), 0.0, len(frame))


def write_pdb(path, x, names, per, *, residue="POL", bonds=True):
    lines = [f"CRYST1{10 * EDGE:9.3f}{10 * EDGE:9.3f}{10 * EDGE:9.3f}  90.00  90.00  90.00 P 1           1"]
    for i, place in enumerate(x):
        where = "".join(f"{10 * v:8.3f}" for v in place)
        lines.append(f"ATOM  {i + 1:5d} {names[i % per]:<4s} {residue} A{i // per + 1:4d}    {where}  1.00  0.00")
    if bonds:
        lines += [f"CONECT{i + 1:5d}{i + 2:5d}" for i in range(len(x) - 1) if (i + 1) % per]
    Path(path).write_text("\n".join([*lines, "END"]) + "\n")


def write_polymers():
    write_pdb("pol.pdb", chains(1)[0], NAMES, 4)
    write_xtc("pol.xtc", chains(1))
    write_xtc("same.xtc", chains(2))
    write_xtc("other.xtc", chains(3, 0.38))


def waters(seed):
    centres = np.random.default_rng(seed).uniform(0, EDGE, (FRAMES, WATERS, 1, 3))
    return centres + np.array([[0, 0, 0], [0.0957, 0, 0], [-0.024, 0.0927, 0]])


def write_waters():
    x = waters(5)
    write_pdb("aa.pdb", x[0].reshape(-1, 3), ("OW", "HW1", "HW2"), 3, residue="SOL", bonds=False)
    write_xtc("aa.xtc", x.reshape(FRAMES, -1, 3))
    write_xtc("cg.xtc", waters(6)[:, :, 0])
    r = np.linspace(0.1, 1.0, 46)
    np.savetxt("zero.pot", np.stack([r, 0 * r], axis=1))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder that the test is in; the command's setting of JAX is left out, and so are pictures."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("jaxcg.cli.check.configure_jax", lambda: None)
    monkeypatch.setattr("jaxcg.report.consistency_figures.svg", lambda *given, **options: "<svg/>")
    return tmp_path


POLYMERS = ("--reference", "pol.xtc", "--topology", "pol.pdb")


def run(*words):
    return main(["check", *map(str, words), "--quiet"])


def refused(capsys, pattern, *words):
    assert run(*words) == 2
    message = capsys.readouterr().err.strip()
    assert message.startswith("jaxcg: ")
    assert "\n" not in message
    assert re.search(pattern, message), message
    assert not Path("out").exists()


def test_equal_ensembles_are_not_told_apart_and_others_are(folder, capsys):
    write_polymers()
    assert run(*POLYMERS, "--model", "same.xtc", "--temperature", 300, "-o", "out", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert sorted(path.name for path in Path("out").iterdir()) == printed["files"] == sorted(OUTPUTS)
    summary = json.loads(Path("out/consistency.json").read_text())
    assert {name: printed[name] for name in summary} == summary
    assert set(summary["settings"]) == set(SETTINGS)
    structure = summary["criteria"][0]
    assert structure["answer"] != "no"
    assert all(finding["lower"] <= 1e-9 + finding["tolerance"] for finding in structure["findings"])
    assert {each["name"] for each in summary["bonded"]} == {
        "bond A–B",
        "bond B–B",
        "angle A–B–B",
        "dihedral A–B–B–A",
    }
    assert {each["pair"] for each in summary["radial"]} == {"A–A", "A–B", "B–B"}
    bond = next(each for each in summary["bonded"] if each["name"] == "bond A–B")
    for side in ("reference_mean", "model_mean"):
        assert abs(bond[side]["value"] - 0.35) < 4 * bond[side]["error"] < 0.01
    assert summary["reference"]["density_nm3"]["value"] == pytest.approx(4 * CHAINS / EDGE**3, rel=1e-4)
    # ⟨R_g²⟩ of n beads joined freely is b² (n² − 1)/6n, in all images of the box.
    size = summary["reference"]["radius_of_gyration_nm"]["value"]
    assert 0.9 * 0.35 * np.sqrt(15 / 24) < size < 0.35 * np.sqrt(15 / 24)
    # Bonded beads are not counted: there is no peak at the length of a bond.
    with np.load("out/curves.npz") as curves:
        r = 0.5 * (curves["g A-B edges"][1:] + curves["g A-B edges"][:-1])
        near = (r > 0.3) & (r < 0.4)
        assert curves["g A-B reference"][near].mean() < 1.5

    assert run(*POLYMERS, "--model", "other.xtc", "--no-pairs", "-o", "wrong") == 0
    summary = json.loads(Path("wrong/consistency.json").read_text())
    assert (summary["outcome"], summary["verdict"]) == ("bad", "structure wrong")
    worst = summary["criteria"][0]["findings"][0]
    assert "bond" in worst["name"]
    assert worst["lower"] > 0.05
    assert summary["radial"] == []


def test_a_density_that_is_free_is_compared(folder):
    """Gases of the same pairs in boxes that fluctuate; 3 % in length are 9 % in density."""
    rng = np.random.default_rng(8)
    gas = waters(5)[:, :, :2].reshape(FRAMES, -1, 3)
    write_pdb("gas.pdb", gas[0], ("W", "V"), 2)
    for name, scale in (("gas.xtc", 1.0), ("tight.xtc", 0.97)):
        with XTCFile(name, "w") as file:
            for number, frame in enumerate(gas):
                edge = EDGE * scale * rng.normal(1, 0.003)
                box = np.eye(3, dtype=np.float32) * edge
                file.write((frame * edge / EDGE).astype(np.float32), box, number, float(number), precision=1e5)
    words = ("--reference", "gas.xtc", "--topology", "gas.pdb", "--model", "tight.xtc", "-o", "out", "--force")
    assert run(*words) == 0
    density = json.loads(Path("out/consistency.json").read_text())["criteria"][1]["findings"][0]
    assert density["answer"] == "no"
    assert density["lower"] < 100 * (0.97**-3 - 1) < density["upper"] < density["lower"] + 1.5
    assert run(*words, "--no-pairs") == 0
    assert json.loads(Path("out/consistency.json").read_text())["criteria"][1]["answer"] == "not tested"


def test_a_mapped_ideal_gas_has_the_pressure_of_one(folder):
    write_waters()
    pressure = WATERS / EDGE**3 * GAS_CONSTANT * 300 / BAR
    words = ["--reference", "aa.xtc", "--topology", "aa.pdb", "--mapping", "com", "--model", "cg.xtc"]
    words += ["--potential", "zero.pot", "--temperature", "300", "-o", "out", "--pressure"]
    assert run(*words, pressure, 2) == 0
    summary = json.loads(Path("out/consistency.json").read_text())
    assert summary["model"]["pressure_bar"]["value"] == pytest.approx(pressure, rel=1e-4)
    structure, thermodynamics, pairs = summary["criteria"]
    assert thermodynamics["answer"] == "yes"
    assert structure["answer"] != "no"
    assert pairs["answer"] == ("yes" if structure["answer"] == "yes" else "undecided")
    # The mapped centres of mass are an ideal gas as well.
    with np.load("out/curves.npz") as curves:
        r = curves["g SOL-SOL edges"]
        shells = np.diff(r**3)
        assert np.sum(curves["g SOL-SOL reference"] * shells) / shells.sum() == pytest.approx(1, abs=0.1)
    # A reference that needs 1000 bar more is not represented.
    assert run(*words, pressure + 1000, 2, "--curve-tolerance", 1.0) == 0
    criteria = json.loads(Path("out/consistency.json").read_text())["criteria"]
    assert [each["answer"] for each in criteria] == ["yes", "no", "no"]
    assert criteria[2]["findings"][0]["value"] == pytest.approx(-1000, abs=1)


def test_the_pressure_of_tables_is_the_virial_of_a_plain_sum(x64):
    rng = np.random.default_rng(0)
    x, box = rng.uniform(0, 2, (12, 3)), np.diag([2.0, 2.1, 2.2])
    r = np.linspace(0.01, 0.9, 400)
    beads = table_of(["A", "B"] * 6)
    strengths = {("A", "A"): 3.0, ("A", "B"): 5.0, ("B", "B"): -2.0}
    tables = {pair: PairTable("", r, s * (0.9 - r) ** 3) for pair, s in strengths.items()}
    wanted = 12 * GAS_CONSTANT * 250
    for i in range(12):
        for j in range(i):
            d = x[i] - x[j]
            d -= np.round(d / np.diag(box)) * np.diag(box)
            distance = np.linalg.norm(d)
            if distance < 0.9:
                a, b = sorted((beads.kinds[i], beads.kinds[j]))
                wanted += distance * 3 * strengths[a, b] * (0.9 - distance) ** 2 / 3
    found = pressure_of(beads, tables, 250.0)(x, box)
    assert found == pytest.approx(wanted / np.linalg.det(box), rel=1e-6)


def table_of(kinds, bonds=(), molecule=None):
    n = len(kinds)
    return BeadTable(
        names=tuple(kinds),
        residue_names=("R",) * n,
        kinds=tuple(kinds),
        labels=tuple(f"{kind} of R {i + 1}" for i, kind in enumerate(kinds)),
        molecule=np.arange(n) if molecule is None else np.asarray(molecule),
        bonds=np.array(bonds, dtype=int).reshape(-1, 2),
    )


def test_bonded_terms_and_pairs_of_a_branched_molecule():
    beads = table_of("XABAC", bonds=[(0, 1), (1, 2), (2, 3), (2, 4)], molecule=[0] * 5)
    groups, notes = bonded_groups(beads)
    found = {group.title: sorted(map(tuple, group.beads.tolist())) for group in groups}
    assert found == {
        "bond A–X": [(0, 1)],
        "bond A–B": [(1, 2), (2, 3)],
        "bond B–C": [(2, 4)],
        "angle B–A–X": [(0, 1, 2)],
        "angle A–B–A": [(1, 2, 3)],
        "angle A–B–C": [(1, 2, 4), (3, 2, 4)],
        "dihedral A–B–A–X": [(0, 1, 2, 3)],
        "dihedral C–B–A–X": [(0, 1, 2, 4)],
    }
    assert not notes
    assert chosen_pairs(beads, None)[0] == []
    assert chosen_pairs(table_of("AAB"), None)[0] == [("A", "A"), ("A", "B")]
    assert chosen_pairs(table_of("AAB"), "B-A")[0] == [("A", "B")]
    with pytest.raises(InputError, match="'A-C' is no pair"):
        chosen_pairs(table_of("AAB"), "A-C")


def test_differences_of_radial_distributions_have_their_noise_taken_off():
    def gas(seed, warp=0.0):
        rng, found = np.random.default_rng(seed), RadialAccumulator(1.0, bins=60)
        for _ in range(64):
            x = rng.uniform(0, 2.2, (50, 3))
            if warp:
                # Pairs at a distance of 0.5 nm on top of the gas.
                d = rng.normal(size=(25, 3))
                x[25:] = np.where(
                    rng.random((25, 1)) < warp, x[:25] + 0.5 * d / np.linalg.norm(d, axis=1)[:, None], x[25:]
                )
            found.add(x, np.eye(3) * 2.2)
        return found.results()["all", "all"]

    first = gas(0)
    lower = [compare_radial(first, gas(seed)).difference.lower for seed in range(1, 9)]
    # At least so many of intervals of 95 % hold zero, with a probability of 0.994.
    assert sum(low == 0 for low in lower) >= 6
    away = compare_radial(first, gas(20, warp=0.8))
    assert away.difference.lower > 0.1
    assert away.difference.lower <= away.difference.value <= away.difference.upper
    assert away.highest > 1.5


def test_bad_input_is_refused_in_one_line(folder, capsys):
    write_polymers()
    same = (*POLYMERS, "--model", "same.xtc")

    def refuse(pattern, *words):
        refused(capsys, pattern, *words, "-o", "out")

    refuse("nothing.xtc: there is no such file", *POLYMERS, "--model", "nothing.xtc")
    refuse(r"frame 0: g\(r\) up to 1.3 nm .* half the smallest width of the box is 1.2", *same, "--r-max", 1.3)
    refuse("no bead is called 'W'; there are POL:A, POL:B", *same, "--select", "W")
    refuse("3 frames of the model, but errors need 4", *same, "--model-frames", "0:3")
    refuse("holds none of the 40 frames", *same, "--frames", "50:60")
    refuse("--potential: pressures need the temperature", *same, "--potential", "pol.pdb")
    refuse("exclude each other", *same, "--no-pairs", "--pairs", "A-B")
    refuse("probability", *same, "--level", 1.5)
    refuse("'A-C' is no pair", *same, "--pairs", "A-C")

    x = chains(2).copy()
    x[7, 5, 1] = np.nan
    write_trr("nan.trr", x)
    refuse("nan.trr, frame 7: bead B of POL 2 has a coordinate that is not a number", *POLYMERS, "--model", "nan.trr")
    write_xtc("boxless.xtc", chains(2), edge=0)
    refuse("boxless.xtc.* no periodic box.* --no-pairs", *POLYMERS, "--model", "boxless.xtc")
    write_xtc("fewer.xtc", chains(2)[:, 4:])
    refuse("44 beads per frame but the reference has 48", *POLYMERS, "--model", "fewer.xtc")
    write_pdb("other.pdb", chains(2)[0], ("A", "B", "A", "B"), 4)
    named = (*same, "--model-topology", "other.pdb")
    refuse("bead 3 is A of POL 1 but B of POL 1 in the reference.* --by-order", *named)
    refuse("does not say what its particles are", "--reference", "pol.xtc", "--model", "same.xtc")
    Path("u.pot").write_text("0.1 4\n0.2 3\n0.3 2\n0.4 0\n")
    every = [word for pair in ("A-A", "A-B", "B-B") for word in ("--potential", f"{pair}=u.pot")]
    refuse("the pressure needs the forces of bonds", *same, *every, "--temperature", 300)


def test_beads_by_order_and_selected_ones(folder):
    write_polymers()
    write_pdb("other.pdb", chains(2)[0], ("A", "B", "A", "B"), 4)
    reference = read_reference(["pol.xtc"], "pol.pdb", frames="0:8")
    model = matched(reference, read_model(["same.xtc"], "other.pdb", frames="0:8"), by_order=True)
    assert model.beads is reference.beads
    ends = selected(model, "A")
    assert ends.n_beads == 2 * CHAINS
    block = next(iter(ends.blocks()))
    assert block.positions.shape == (8, 2 * CHAINS, 3)
    np.testing.assert_allclose(block.positions[0, 1], np.mod(chains(2)[0, 3], EDGE), atol=1e-4)
    # The ends of chains are two beads of one molecule without a bond.
    found = check_model(selected(reference, "A"), ends, CheckSettings(pressure=Estimate(1.0, 0.1)))
    assert [each.name for each in found.curves] == ["A–A"]
    assert not found.bonded
    assert found.answers[1:] == ("not tested", "not tested")
    assert any("independent frames" in note for note in found.notes)


def test_documentation_names_every_option():
    parser = build_parser()
    verbs = next(action for action in parser._actions if action.choices and "check" in action.choices)
    text = (Path(__file__).parents[1] / "docs" / "cli.md").read_text()
    text = text[text.index("## jaxcg check") :]
    for action in dict(verbs.choices or {})["check"]._actions:
        for option in action.option_strings[-1:]:
            if option not in ("--help", "--output"):
                assert f"`{option}" in text, option


def test_verdicts_in_words():
    assert overall(("yes", "not tested", "not tested")) == ("good", "structure right")
    assert overall(("undecided", "yes", "no")) == ("undecided", "structure undecided, thermodynamics right")
    assert overall(("yes", "no", "no")) == ("bad", "structure right, thermodynamics wrong")


@pytest.mark.slow
def test_runs_of_an_ideal_gas_have_its_equation_of_state(folder, x64):
    write_waters()
    model = read_model(["cg.xtc"])
    beads = table_of(["W"] * WATERS)
    r = np.linspace(0.1, 0.9, 41)
    states = StateTable("", np.array([2.0, 3.0]), np.zeros(2), np.zeros(2))
    settings = CheckSettings(temperature=300.0, steps=100, time_step=0.002)
    found = simulated_states(beads, model, {("W", "W"): PairTable("", r, 0 * r)}, states, settings)
    np.testing.assert_allclose(found.pressures, states.densities * GAS_CONSTANT * 300, rtol=1e-5)


@pytest.mark.slow
def test_the_page_stands_alone_and_comes_out_the_same(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("jaxcg.cli.check.configure_jax", lambda: None)
    write_waters()
    Path("eos.txt").write_text("2 90 5\n3 130 5\n")
    Path("model.txt").write_text("2 95 5\n3 139 5\n")
    words = ["--reference", "aa.xtc", "--topology", "aa.pdb", "--mapping", "com", "--model", "cg.xtc"]
    words += ["--temperature", 300, "--equation", "eos.txt", "--model-equation", "model.txt"]
    pages = []
    for name in ("one", "two"):
        assert run(*words, "-o", name) == 0
        pages.append((Path(name) / "report.html").read_text())
    assert pages[0] == pages[1]
    page = pages[0]
    assert page.count("<svg") == 4
    assert not re.search(r"(src|href)=\"(https?:)?//", page)
    for text in ("structurally consistent?", "thermodynamically consistent?", "representable by pairs?", "bar² nm⁻³"):
        assert text in page
