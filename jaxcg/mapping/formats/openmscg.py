"""OpenMSCG mapping files: YAML with ``site-types`` and ``system``.

A site type lists atoms relative to an anchor (``index``), their weights for positions (``x-weight``, normalised) and
for forces (``f-weight``, used as they are). ``system`` is a list of groups: ``anchor``, ``repeat``, ``offset`` and
either ``sites`` (pairs of a type and an offset) or ``groups`` of the same kind, whose anchors add up.

Source of the format: OpenMSCG documentation, "cgmap"; Peng et al., J. Phys. Chem. B 127, 8537 (2023).
"""

from __future__ import annotations

import os

from .document import GroupRule, MappingFile, check_rules
from .yaml_nodes import YamlTree

#: More sites than this are taken for a mistyped ``repeat``.
_MOST_SITES = 100_000_000


def read_openmscg(path: str | os.PathLike) -> MappingFile:
    """Rules of an OpenMSCG mapping file; sites keep the order of the file.

    Raises:
        InputError: names the file and the line.
    """
    tree = YamlTree(path)
    top = tree.fields(tree.root, "the file", ("site-types", "system"))
    types = {}
    for name, node in tree.fields(top["site-types"], "site-types", optional=None).items():
        parts = tree.fields(node, f"site type {name}", ("index", "x-weight"), ("f-weight",))
        index = tree.integers(parts["index"], "index")
        if not index:
            raise tree.error(parts["index"], f"site type {name} has no atoms.")
        weights = tree.numbers(parts["x-weight"], "x-weight")
        forces = tree.numbers(parts["f-weight"], "f-weight") if "f-weight" in parts else None
        for key, values in (("x-weight", weights), ("f-weight", forces)):
            if values is not None and len(values) != len(index):
                raise tree.error(parts[key], f"{key} has {len(values)} numbers for {len(index)} atoms.")
        types[name] = (index, weights, forces, tree.where(node))
    placed: dict[str, list[tuple[int, int]]] = {}
    count = 0
    for name, anchor in _sites(tree, tree.items(top["system"], "system"), types):
        placed.setdefault(name, []).append((anchor, count))
        count += 1
    if not count:
        raise tree.error(top["system"], "system places no site.")
    groups = []
    for name, (index, weights, forces, where) in types.items():
        if name in placed:
            anchors, order = zip(*placed[name])
            groups.append(GroupRule(name, name, index, anchors, order, None, "none", weights, forces, where))
    mapping = MappingFile(groups=tuple(groups), name=str(path))
    check_rules(mapping)
    return mapping


def _sites(tree: YamlTree, groups, types) -> list[tuple[str, int]]:
    """(type, anchor) of every site in order, anchors relative to the caller's."""
    sites: list[tuple[str, int]] = []
    for node in groups:
        parts = tree.fields(node, "a group", ("anchor",), ("repeat", "offset", "sites", "groups"))
        anchor = tree.integer(parts["anchor"])
        repeat = tree.integer(parts["repeat"], 1) if "repeat" in parts else 1
        if "offset" not in parts and repeat > 1:
            raise tree.error(node, "a group that repeats needs 'offset', the atoms from one copy to the next.")
        offset = tree.integer(parts["offset"]) if "offset" in parts else 0
        if ("sites" in parts) == ("groups" in parts):
            raise tree.error(node, "a group needs either 'sites' or 'groups'.")
        if "groups" in parts:
            pattern = _sites(tree, tree.items(parts["groups"], "groups"), types)
        else:
            pattern = []
            for pair in tree.items(parts["sites"], "sites"):
                fields = tree.items(pair, "a site")
                if len(fields) != 2:
                    raise tree.error(pair, "a site is a pair [type, offset].")
                name = tree.text(fields[0])
                if name not in types:
                    raise tree.error(fields[0], f"site type '{name}' is not defined in site-types.")
                pattern.append((name, tree.integer(fields[1])))
        if repeat * len(pattern) > _MOST_SITES:
            raise tree.error(parts["repeat"], f"{repeat} copies of {len(pattern)} sites are too many.")
        sites += [(name, anchor + copy * offset + site) for copy in range(repeat) for name, site in pattern]
    return sites
