"""VOTCA coarse-graining mappings: XML files with a root ``cg_molecule``.

A molecule is found by its name in the all-atom topology (``ident``); its atoms are ``number:residue:atom`` with the
residues of the molecule counted from 1. Weights c are normalised; force weights are d/c, where the optional ``d`` of
a map defaults to c, so that F = Σ (d/c) f (the sum of the forces by default).

Source of the format: VOTCA-CSG manual, "The mapping file"; Rühle et al., J. Chem. Theory Comput. 5, 3211 (2009).
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, indent, tostring
from xml.parsers import expat

from ...errors import InputError
from .document import INTERACTION_KINDS, AtomName, BeadRule, BondedRule, MappingFile, MoleculeRule, check_rules


@dataclass
class _Node:
    tag: str
    line: int
    text: str = ""
    children: list[_Node] = field(default_factory=list)

    def find(self, tag: str) -> _Node | None:
        return next((child for child in self.children if child.tag == tag), None)

    def all(self, tag: str) -> list[_Node]:
        return [child for child in self.children if child.tag == tag]


def read_votca(path: str | os.PathLike) -> MappingFile:
    """Rules of a VOTCA mapping file: beads, weights and d-weights, and the names of bonded interactions.

    Raises:
        InputError: names the file and the line; also for beads with ``symmetry`` 3 (ellipsoids), which have an
            orientation that a bead of this map has not.
    """
    path = Path(path)
    root = _parse(path)
    if root.tag != "cg_molecule":
        raise InputError(f"{path}, line {root.line}: the root is <{root.tag}>, expected <cg_molecule>.")
    name = _text(root, "name", path)
    ident = _text(root, "ident", path)
    topology = _child(root, "topology", path)
    maps = {_text(node, "name", path): node for node in _children(root, "maps", "map")}
    nodes = _child(topology, "cg_beads", path).all("cg_bead")
    if not nodes:
        raise InputError(f"{path}, line {topology.line}: <cg_beads> has no <cg_bead>.")
    beads = tuple(_bead(node, maps, path) for node in nodes)
    bonded = []
    group = topology.find("cg_bonded")
    for node in group.children if group else ():
        if node.tag not in ("bond", "angle", "dihedral"):
            raise InputError(f"{path}, line {node.line}: <{node.tag}> is not bond, angle or dihedral.")
        words = _text(node, "beads", path).split()
        size = INTERACTION_KINDS[node.tag]
        if len(words) % size:
            raise InputError(
                f"{path}, line {node.line}: {len(words)} beads for {node.tag}s, which join {size} each; one is missing."
            )
        groups = tuple(tuple(words[i : i + size]) for i in range(0, len(words), size))
        bonded.append(BondedRule(node.tag, _text(node, "name", path), groups, f"{path}, line {node.line}"))
    rule = MoleculeRule(name, "molecule", (ident,), beads, bonded=tuple(bonded), where=f"{path}, line {root.line}")
    result = MappingFile((rule,), name=str(path))
    check_rules(result)
    return result


def _bead(node: _Node, maps: dict[str, _Node], path: Path) -> BeadRule:
    where = f"{path}, line {node.line}"
    name = _text(node, "name", path)
    symmetry = node.find("symmetry")
    if symmetry is not None and symmetry.text.strip() not in ("1", ""):
        raise InputError(
            f"{path}, line {symmetry.line}: bead {name} has symmetry {symmetry.text.strip()}; only points (1) "
            "are mapped, use a FrameMap for orientations."
        )
    words = _child(node, "beads", path)
    try:
        atoms = tuple(AtomName.parse(word) for word in words.text.split())
    except ValueError as error:
        raise InputError(f"{path}, line {words.line}: {error}.") from None
    if any(atom.residue_name is None for atom in atoms):
        raise InputError(f"{path}, line {words.line}: bead {name} needs its atoms as number:residue:atom.")
    chosen = _text(node, "mapping", path)
    if chosen not in maps:
        raise InputError(f"{where}: bead {name} uses the map '{chosen}', which <maps> does not define.")
    weights = _numbers(maps[chosen], "weights", path)
    force_weights = None
    if maps[chosen].find("d") is not None:
        d = _numbers(maps[chosen], "d", path)
        if len(d) != len(weights) or abs(sum(d)) < 1e-12:
            raise InputError(f"{path}, line {maps[chosen].line}: <d> needs {len(weights)} numbers, their sum not zero.")
        if any(dd and not c for dd, c in zip(d, weights)):
            raise InputError(f"{path}, line {maps[chosen].line}: <d> is not zero where the weight is zero.")
        if abs(sum(weights)) < 1e-12:
            raise InputError(f"{path}, line {maps[chosen].line}: the weights sum to zero.")
        ratio = sum(weights) / sum(d)
        force_weights = tuple(dd / c * ratio if c else 0.0 for dd, c in zip(d, weights))
    elif not all(weights):
        # An atom of weight zero does not hand its force on; otherwise forces are added up.
        force_weights = tuple(1.0 if c else 0.0 for c in weights)
    return BeadRule(name, _text(node, "type", path), atoms, weights, force_weights, where=where)


def write_votca(mapping: MappingFile, path: str | os.PathLike) -> None:
    """Writes the rule of one molecule as a VOTCA mapping file, which `read_votca` reads back equal.

    Raises:
        InputError: the mapping says what the format cannot: several molecules, rules for residues or groups, virtual
            sites, weights by name, or atoms without residue.
    """
    if len(mapping.molecules) != 1 or mapping.groups or mapping.molecules[0].scope != "molecule":
        raise InputError(f"{path}: a VOTCA mapping file holds the beads of exactly one molecule.")
    rule = mapping.molecules[0]
    root = Element("cg_molecule")
    SubElement(root, "name").text = rule.name
    SubElement(root, "ident").text = rule.matches[0] if rule.matches else rule.name
    topology, maps = SubElement(root, "topology"), SubElement(root, "maps")
    beads = SubElement(topology, "cg_beads")
    for bead in rule.beads:
        if not isinstance(bead, BeadRule) or isinstance(bead.weights, str):
            raise InputError(f"{path}: bead {bead.name} needs atoms and weights in numbers.")
        if any(atom.residue is None or atom.residue_name is None for atom in bead.atoms):
            raise InputError(f"{path}: bead {bead.name} needs its atoms as number:residue:atom.")
        node = SubElement(beads, "cg_bead")
        fields = {
            "name": bead.name,
            "type": bead.type,
            "symmetry": "1",
            "mapping": bead.name,
            "beads": " ".join(str(atom) for atom in bead.atoms),
        }
        scheme = SubElement(maps, "map")
        for tag, text in fields.items():
            SubElement(node, tag).text = text
        SubElement(scheme, "name").text = bead.name
        SubElement(scheme, "weights").text = " ".join(repr(c) for c in bead.weights)
        if bead.force_weights is not None:
            d = (c * w for c, w in zip(bead.weights, bead.force_weights))
            SubElement(scheme, "d").text = " ".join(repr(value) for value in d)
    if rule.bonded:
        bonded = SubElement(topology, "cg_bonded")
        for item in rule.bonded:
            node = SubElement(bonded, item.kind)
            SubElement(node, "name").text = item.name
            SubElement(node, "beads").text = "\n".join(" ".join(group) for group in item.beads)
    indent(root)
    Path(path).write_text(tostring(root, encoding="unicode") + "\n")


def _parse(path: Path) -> _Node:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error}).") from error
    parser = expat.ParserCreate()
    top = _Node("", 0)
    stack = [top]

    def start(tag, _):
        node = _Node(tag, parser.CurrentLineNumber)
        stack[-1].children.append(node)
        stack.append(node)

    def end(_):
        stack.pop()

    def text(data):
        stack[-1].text += data

    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, text
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise InputError(
            f"{path}, line {error.lineno}: not well-formed XML ({expat.errors.messages[error.code]})."
        ) from None
    return top.children[0]


def _child(node: _Node, tag: str, path: Path) -> _Node:
    child = node.find(tag)
    if child is None:
        raise InputError(f"{path}, line {node.line}: <{node.tag}> has no <{tag}>.")
    return child


def _children(node: _Node, outer: str, inner: str) -> list[_Node]:
    group = node.find(outer)
    return group.all(inner) if group else []


def _text(node: _Node, tag: str, path: Path) -> str:
    child = _child(node, tag, path)
    if not child.text.strip():
        raise InputError(f"{path}, line {child.line}: <{tag}> is empty.")
    return child.text.strip()


def _numbers(node: _Node, tag: str, path: Path) -> tuple[float, ...]:
    child = _child(node, tag, path)
    try:
        return tuple(float(word) for word in child.text.split())
    except ValueError:
        raise InputError(f"{path}, line {child.line}: <{tag}> holds something that is not a number.") from None
