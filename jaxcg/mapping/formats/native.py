"""jaxcg's own mapping files: a small YAML that says all that the other formats say.

```yaml
jaxcg-mapping: 1              # version of the format
weights: mass                 # default for beads: mass or geometry

residues:                     # beads of a residue, wherever it occurs
  - name: ALA
    matches: [ALA, ALAD]      # residue names in the topology; default: the name
    beads:
      - {name: BB, type: P2, atoms: [N, CA, C, O]}
      - {name: SC1, type: TC3, atoms: [CB], weights: geometry}
    bonds:
      backbone: [[BB, +BB]]   # + : the bead of the next residue of the molecule
      side: [[BB, SC1]]

molecules:                    # beads of a whole molecule
  - name: HEX
    matches: [hexane]         # molecule names in the topology; default: the name
    residues: [CHL, CH2, CHR] # residues of the molecule in order; may be left out
    beads:
      # atoms as NAME, NUMBER:NAME or NUMBER:RESIDUE:NAME, residues counted from 1 within the molecule
      - {name: A, type: C3, atoms: ["1:CHL:C", "2:CH2:C"], weights: [15, 14], force-weights: [1, 1]}
      - {name: B, type: C3, atoms: ["2:CH2:H1", "3:CHR:C"], residue: 3}
      - {name: C, type: C3, atoms: ["3:CHR:H1"]}
      # virtual sites: linear (parameters: mass, geometry or a weight for each bead), and as GROMACS defines them
      # 2fd (a), 3fd (a, d), 3fad (θ in degrees, d), 3out (a, b, c) and 4fdn (a, b, c), lengths in nm
      - {name: V, type: U, site: linear, beads: [A, B], parameters: [0.4, 0.6]}
      - {name: W, type: U, site: 3fd, beads: [A, B, C], parameters: [0.5, 0.1]}
    bonds: {bond: [[A, B], [B, C]]}
    constraints: {rigid: [[A, C]]}
    angles: {angle: [[A, B, C]]}
    dihedrals: {}

groups:                       # beads of atoms chosen by hand, after those above
  # index: counted from 0; anchors: where each copy starts, a list or {start, count, step}
  - {name: WAT, type: W, index: [0, 1, 2], weights: [16, 1, 1], anchors: {start: 60, count: 256, step: 3}}
  # select: an MDAnalysis selection; split: none (one bead), residue or molecule (a bead for each)
  - {name: ZN, type: Q, select: "resname ZN", split: residue}
sites: []                     # virtual sites on the beads of groups, keys as above
bonds: {}                     # interactions between beads of groups (angles, dihedrals, constraints too)
```

Weights of positions are normalised to sum one for each bead; force weights are used as they are, F = Σ w f, and
forces are added up where none are given. Numbers may carry any sign as long as the weights do not sum to zero.
"""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

from ...errors import InputError
from .document import (
    INTERACTION_KINDS,
    SITE_KINDS,
    WEIGHTINGS,
    AtomName,
    BeadRule,
    BondedRule,
    GroupRule,
    MappingFile,
    MoleculeRule,
    SiteRule,
    check_rules,
)
from .yaml_nodes import YamlTree

VERSION = 1
_SECTIONS = {f"{kind}s": kind for kind in INTERACTION_KINDS}


def read_native(path: str | os.PathLike) -> MappingFile:
    """Rules of a jaxcg mapping file; the format is described in the docstring of `jaxcg.mapping.formats.native`.

    Raises:
        InputError: names the file and the line.
    """
    tree = YamlTree(path)
    keys = ("weights", "residues", "molecules", "groups", "sites", *_SECTIONS)
    top = tree.fields(tree.root, "the file", ("jaxcg-mapping",), keys)
    if tree.integer(top["jaxcg-mapping"]) != VERSION:
        raise tree.error(top["jaxcg-mapping"], f"only version {VERSION} of the format is known.")
    default = _weights(tree, top["weights"]) if "weights" in top else "mass"
    if not isinstance(default, str):
        raise tree.error(top["weights"], "the default must be mass or geometry.")
    molecules = [
        _molecule(tree, node, scope, default)
        for section, scope in (("residues", "residue"), ("molecules", "molecule"))
        if section in top
        for node in tree.items(top[section], section)
    ]
    groups = [_group(tree, node, default) for node in tree.items(top["groups"], "groups")] if "groups" in top else []
    sites = []
    for node in tree.items(top["sites"], "sites") if "sites" in top else ():
        site = _bead(tree, node, default)
        if not isinstance(site, SiteRule):
            raise tree.error(node, "only virtual sites belong here; beads of atoms go to groups.")
        sites.append(site)
    mapping = MappingFile(tuple(molecules), tuple(groups), tuple(sites), _bonded(tree, top), name=str(path))
    if not molecules and not groups:
        raise InputError(f"{path}: the file defines no bead; it needs residues, molecules or groups.")
    check_rules(mapping)
    return mapping


def _molecule(tree: YamlTree, node, scope: str, default: str) -> MoleculeRule:
    optional = ("matches", "residues", *_SECTIONS) if scope == "molecule" else ("matches", *_SECTIONS)
    parts = tree.fields(node, f"a {scope}", ("name", "beads"), optional)
    name = tree.text(parts["name"])
    beads = tuple(_bead(tree, bead, default) for bead in tree.items(parts["beads"], "beads"))
    if not beads:
        raise tree.error(parts["beads"], f"{scope} {name} has no beads.")
    return MoleculeRule(
        name,
        scope,
        tree.texts(parts["matches"], "matches") if "matches" in parts else (name,),
        beads,
        tree.texts(parts["residues"], "residues") if "residues" in parts else (),
        _bonded(tree, parts),
        tree.where(node),
    )


def _bead(tree: YamlTree, node, default: str) -> BeadRule | SiteRule:
    parts = tree.fields(node, "a bead", optional=None)
    if "site" in parts:
        parts = tree.fields(node, "a virtual site", ("name", "site", "beads"), ("type", "parameters"))
        kind = tree.text(parts["site"])
        if kind not in SITE_KINDS:
            raise tree.error(parts["site"], f"virtual site '{kind}' is not known; choose from {', '.join(SITE_KINDS)}.")
        parameters = _weights(tree, parts["parameters"]) if "parameters" in parts else "geometry"
        beads = tree.texts(parts["beads"], "beads")
        return SiteRule(*_names(tree, parts), kind, beads, parameters, tree.where(node))
    parts = tree.fields(node, "a bead", ("name", "atoms"), ("type", "weights", "force-weights", "residue"))
    atoms = []
    for item in tree.items(parts["atoms"], "atoms"):
        try:
            atoms.append(AtomName.parse(tree.text(item)))
        except ValueError as error:
            raise tree.error(item, f"{error}.") from None
    return BeadRule(
        *_names(tree, parts),
        tuple(atoms),
        _weights(tree, parts["weights"]) if "weights" in parts else default,
        tree.numbers(parts["force-weights"], "force-weights") if "force-weights" in parts else None,
        tree.integer(parts["residue"], 1) if "residue" in parts else None,
        tree.where(node),
    )


def _group(tree: YamlTree, node, default: str) -> GroupRule:
    optional = ("type", "index", "anchors", "places", "select", "split", "weights", "force-weights")
    parts = tree.fields(node, "a group", ("name",), optional)
    if ("index" in parts) == ("select" in parts):
        raise tree.error(node, "a group needs either 'index' or 'select'.")
    split = tree.text(parts["split"]) if "split" in parts else "none"
    if split not in ("none", "residue", "molecule"):
        raise tree.error(parts["split"], f"split '{split}' is not known; choose none, residue or molecule.")
    for key in ("anchors", "places") if "select" in parts else ("split",):
        if key in parts:
            raise tree.error(parts[key], f"'{key}' does not go with '{'select' if 'select' in parts else 'index'}'.")
    weights = _weights(tree, parts["weights"]) if "weights" in parts else default
    forces = tree.numbers(parts["force-weights"], "force-weights") if "force-weights" in parts else None
    if split != "none" and (forces is not None or not isinstance(weights, str)):
        raise tree.error(node, "a group that is split takes weights mass or geometry only.")
    index = tree.integers(parts["index"], "index") if "index" in parts else ()
    if "index" in parts and not index:
        raise tree.error(parts["index"], "a bead needs at least one atom.")
    anchors = _integers(tree, parts["anchors"]) if "anchors" in parts else (0,)
    places = _integers(tree, parts["places"]) if "places" in parts else ()
    if not anchors or (places and len(places) != len(anchors)):
        raise tree.error(node, "a group needs anchors, and as many places as anchors if any.")
    select = tree.text(parts["select"]) if "select" in parts else None
    return GroupRule(*_names(tree, parts), index, anchors, places, select, split, weights, forces, tree.where(node))


def _names(tree: YamlTree, parts) -> tuple[str, str]:
    name = tree.text(parts["name"])
    return name, tree.text(parts["type"]) if "type" in parts else name


def _weights(tree: YamlTree, node) -> str | tuple[float, ...]:
    if node.id != "scalar":
        return tree.numbers(node, "weights")
    if tree.text(node) not in WEIGHTINGS:
        raise tree.error(node, f"'{node.value}' is not known; give mass, geometry or a list of numbers.")
    return tree.text(node)


def _integers(tree: YamlTree, node) -> tuple[int, ...]:
    if node.id != "mapping":
        return tree.integers(node, "the numbers")
    parts = tree.fields(node, "a range", ("start", "count", "step"))
    start, step = tree.integer(parts["start"]), tree.integer(parts["step"])
    return tuple(start + step * number for number in range(tree.integer(parts["count"], 1)))


def _bonded(tree: YamlTree, parts) -> tuple[BondedRule, ...]:
    return tuple(
        BondedRule(
            kind,
            name,
            tuple(tree.texts(group, "the beads") for group in tree.items(node, name)),
            tree.where(node),
        )
        for section, kind in _SECTIONS.items()
        if section in parts
        for name, node in tree.fields(parts[section], section, optional=None).items()
    )


# -- writing ------------------------------------------------------------------------------------------------------


def write_native(mapping: MappingFile, path: str | os.PathLike) -> None:
    """Writes the rules as a jaxcg mapping file; `read_native` reads them back equal."""
    import yaml

    content: dict = {"jaxcg-mapping": VERSION}
    for section, scope in (("residues", "residue"), ("molecules", "molecule")):
        rules = [_plain_molecule(rule) for rule in mapping.molecules if rule.scope == scope]
        if rules:
            content[section] = rules
    if mapping.groups:
        content["groups"] = [_plain_group(group) for group in mapping.groups]
    if mapping.sites:
        content["sites"] = [_plain_bead(site) for site in mapping.sites]
    content |= _plain_bonded(mapping.bonded)
    Path(path).write_text(yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=120))


def _plain_molecule(rule: MoleculeRule) -> dict:
    plain: dict = {"name": rule.name, "matches": list(rule.matches)}
    if rule.residues:
        plain["residues"] = list(rule.residues)
    plain["beads"] = [_plain_bead(bead) for bead in rule.beads]
    return plain | _plain_bonded(rule.bonded)


def _plain_bead(bead: BeadRule | SiteRule) -> dict:
    plain: dict = {"name": bead.name, "type": bead.type}
    if isinstance(bead, SiteRule):
        plain |= {"site": bead.kind, "beads": list(bead.beads), "parameters": _plain(bead.parameters)}
        return plain
    plain |= {"atoms": [str(atom) for atom in bead.atoms], "weights": _plain(bead.weights)}
    if bead.force_weights is not None:
        plain["force-weights"] = list(bead.force_weights)
    if bead.residue is not None:
        plain["residue"] = bead.residue
    return plain


def _plain_group(group: GroupRule) -> dict:
    plain: dict = {"name": group.name, "type": group.type}
    if group.select is not None:
        plain |= {"select": group.select, "split": group.split}
    else:
        plain |= {"index": list(group.index), "anchors": _plain_integers(group.anchors)}
        if group.order:
            plain["places"] = _plain_integers(group.order)
    plain["weights"] = _plain(group.weights)
    if group.force_weights is not None:
        plain["force-weights"] = list(group.force_weights)
    return plain


def _plain(values: str | tuple[float, ...]) -> str | list[float]:
    return values if isinstance(values, str) else list(values)


def _plain_integers(values: tuple[int, ...]) -> list[int] | dict[str, int]:
    steps = {after - before for before, after in pairwise(values)}
    if len(values) > 2 and len(steps) == 1:
        return {"start": values[0], "count": len(values), "step": steps.pop()}
    return list(values)


def _plain_bonded(bonded: tuple[BondedRule, ...]) -> dict:
    plain: dict = {}
    for rule in bonded:
        named = plain.setdefault(f"{rule.kind}s", {}).setdefault(rule.name, [])
        named += [list(group) for group in rule.beads]
    return plain
