"""What every mapping file comes to: rules for molecules or residues, and rules for atoms chosen by hand."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...errors import InputError

#: How many beads each kind of virtual site is built on; None: any number.
SITE_KINDS: dict[str, int | None] = {"linear": None, "2fd": 2, "3fd": 3, "3fad": 3, "3out": 3, "4fdn": 4}
#: How many parameters the non-linear kinds take; their meaning is that of `jaxcg.mapping.virtual_sites.Site`.
SITE_PARAMETERS = {"2fd": 1, "3fd": 2, "3fad": 2, "3out": 3, "4fdn": 3}
#: How many beads each kind of named interaction joins.
INTERACTION_KINDS = {"bond": 2, "angle": 3, "dihedral": 4, "constraint": 2}
WEIGHTINGS = ("mass", "geometry")


@dataclass(frozen=True)
class AtomName:
    """An atom of a molecule or residue by its name.

    Arguments:
        name: atom name.
        residue: which residue of the molecule it is in, counted from 1; None where the name alone says enough.
        residue_name: name that residue must have; None: any.
    """

    name: str
    residue: int | None = None
    residue_name: str | None = None

    @staticmethod
    def parse(text: str) -> AtomName:
        """Reads ``"CA"``, ``"2:CA"`` or ``"2:LYS:CA"``.

        Raises:
            ValueError: the text is none of these.
        """
        parts = text.split(":")
        if len(parts) > 3 or not all(parts):
            raise ValueError(f"'{text}' is not an atom; write NAME, NUMBER:NAME or NUMBER:RESIDUE:NAME")
        if len(parts) == 1:
            return AtomName(parts[0])
        if not parts[0].isdigit() or parts[0] == "0":
            raise ValueError(f"'{text}' does not begin with the number of a residue (from 1)")
        return AtomName(parts[-1], int(parts[0]), parts[1] if len(parts) == 3 else None)

    def __str__(self) -> str:
        parts = (self.residue, self.residue_name, self.name)
        return ":".join(str(part) for part in parts if part is not None)


@dataclass(frozen=True)
class BeadRule:
    """A bead made of atoms.

    Arguments:
        name, type: of the bead.
        atoms: the atoms it is made of; one named twice counts twice.
        weights: one for each atom, normalised to sum one when the map is built; or ``"mass"`` or ``"geometry"``.
        force_weights: one for each atom, used as they are: F = Σ w f. None: the aggregating map.
        residue: which residue of the molecule the bead belongs to, from 1; None: that of its first atom.
        where: file and line, for messages.
    """

    name: str
    type: str
    atoms: tuple[AtomName, ...]
    weights: str | tuple[float, ...] = "mass"
    force_weights: tuple[float, ...] | None = None
    residue: int | None = None
    where: str = field(default="", compare=False)


@dataclass(frozen=True)
class SiteRule:
    """A virtual site: a bead placed by other beads.

    Arguments:
        name, type: of the site.
        kind: a key of `SITE_KINDS`.
        beads: names of the beads it is placed by.
        parameters: weights of a linear site, or ``"mass"`` or ``"geometry"`` for them; the constants of the others.
        where: file and line, for messages.
    """

    name: str
    type: str
    kind: str
    beads: tuple[str, ...]
    parameters: str | tuple[float, ...] = "geometry"
    where: str = field(default="", compare=False)


@dataclass(frozen=True)
class BondedRule:
    """A named interaction and the beads it joins; a name that begins with ``+`` is in the next residue."""

    kind: str
    name: str
    beads: tuple[tuple[str, ...], ...]
    where: str = field(default="", compare=False)


@dataclass(frozen=True)
class MoleculeRule:
    """The beads of one kind of molecule, or of one kind of residue.

    Arguments:
        name: of the molecule (or residue) after mapping.
        scope: ``"molecule"`` or ``"residue"``: what the rule applies to, wherever it occurs.
        matches: names in the all-atom topology: of the molecule, or of the residue.
        residues: names of the residues of the molecule in order, which identify it too; empty: not asked.
        beads: in the order of the output, virtual sites among them.
        bonded: named interactions.
        where: file and line, for messages.
    """

    name: str
    scope: str
    matches: tuple[str, ...]
    beads: tuple[BeadRule | SiteRule, ...]
    residues: tuple[str, ...] = ()
    bonded: tuple[BondedRule, ...] = ()
    where: str = field(default="", compare=False)


@dataclass(frozen=True)
class GroupRule:
    """Beads of atoms given by number or by a selection.

    Arguments:
        name, type: of each bead.
        index: atoms counted from 0, relative to each anchor; empty when ``select`` is given.
        anchors: number each copy of ``index`` starts from.
        order: place of each copy among all beads of this kind of rule; empty: after the rule before it.
        select: an MDAnalysis selection string.
        split: ``"none"`` (one bead), ``"residue"`` or ``"molecule"`` (a bead for each that has selected atoms).
        weights, force_weights: as in `BeadRule`.
    """

    name: str
    type: str
    index: tuple[int, ...] = ()
    anchors: tuple[int, ...] = (0,)
    order: tuple[int, ...] = ()
    select: str | None = None
    split: str = "none"
    weights: str | tuple[float, ...] = "mass"
    force_weights: tuple[float, ...] | None = None
    where: str = field(default="", compare=False)


@dataclass(frozen=True)
class MappingFile:
    """All rules of a mapping file.

    Arguments:
        molecules: rules for molecules and residues.
        groups: rules for atoms by number or selection; their beads come after those of the molecules.
        sites: virtual sites on the beads of groups.
        bonded: interactions between the beads of groups.
        name: of the mapping, for messages.
        notes: what the reader left out, for the user.
    """

    molecules: tuple[MoleculeRule, ...] = ()
    groups: tuple[GroupRule, ...] = ()
    sites: tuple[SiteRule, ...] = ()
    bonded: tuple[BondedRule, ...] = ()
    name: str = field(default="", compare=False)
    notes: tuple[str, ...] = field(default=(), compare=False)

    def joined(self, other: MappingFile) -> MappingFile:
        """The rules of both files."""
        return MappingFile(
            self.molecules + other.molecules,
            self.groups + other.groups,
            self.sites + other.sites,
            self.bonded + other.bonded,
            name=f"{self.name};{other.name}",
            notes=self.notes + other.notes,
        )


def check_rules(mapping: MappingFile) -> None:
    """Raises `InputError` for rules that contradict themselves, whichever format they were read from."""
    for rule in mapping.molecules:
        _check_beads(rule.beads, rule.bonded, rule.where or mapping.name, rule.scope)
    groups = tuple(BeadRule(g.name, g.type, (AtomName("X"),), where=g.where) for g in mapping.groups)
    named = bool(mapping.sites or mapping.bonded)
    _check_beads((*groups, *mapping.sites), mapping.bonded, mapping.name, "groups", unique=named)
    for group in mapping.groups:
        _check_weights(group, len(group.index) if group.select is None else None)


def _check_beads(beads, bonded, where: str, scope: str, unique: bool = True) -> None:
    names: set[str] = set()
    for bead in beads:
        if unique and bead.name in names:
            raise InputError(f"{bead.where}: a second bead named {bead.name}; bead names must differ.")
        names.add(bead.name)
    real = {bead.name for bead in beads if isinstance(bead, BeadRule)}
    if beads and not real:
        raise InputError(f"{where}: no bead is made of atoms; virtual sites need beads to stand on.")
    for bead in beads:
        if isinstance(bead, BeadRule):
            if not bead.atoms:
                raise InputError(f"{bead.where}: bead {bead.name} has no atoms; give it at least one.")
            _check_weights(bead, len(bead.atoms))
            continue
        unknown = [name for name in bead.beads if name not in real]
        if unknown:
            raise InputError(
                f"{bead.where}: virtual site {bead.name} stands on {unknown[0]}, which is not a bead made of atoms."
            )
        wanted = SITE_KINDS[bead.kind]
        if not bead.beads or (wanted is not None and len(bead.beads) != wanted):
            raise InputError(f"{bead.where}: virtual site {bead.name} ({bead.kind}) needs {wanted or 'some'} beads.")
        count = SITE_PARAMETERS.get(bead.kind, len(bead.beads))
        if isinstance(bead.parameters, str):
            if bead.kind != "linear":
                raise InputError(f"{bead.where}: virtual site {bead.name} ({bead.kind}) needs {count} parameters.")
        elif len(bead.parameters) != count:
            raise InputError(
                f"{bead.where}: virtual site {bead.name} ({bead.kind}) has {len(bead.parameters)} parameters, "
                f"expected {count}."
            )
    for rule in bonded:
        for group in rule.beads:
            if len(group) != INTERACTION_KINDS[rule.kind]:
                raise InputError(
                    f"{rule.where}: {rule.kind} {rule.name} joins {len(group)} beads, "
                    f"expected {INTERACTION_KINDS[rule.kind]}."
                )
            if scope != "residue" and any(name.startswith("+") for name in group):
                raise InputError(f"{rule.where}: {rule.kind} {rule.name}: + is only for rules of residues.")
            unknown = [name for name in group if name.removeprefix("+") not in names]
            if unknown:
                raise InputError(
                    f"{rule.where}: {rule.kind} {rule.name} names bead {unknown[0]}, which is not defined."
                )


def _check_weights(bead: BeadRule | GroupRule, count: int | None) -> None:
    for label, weights in (("weights", bead.weights), ("force weights", bead.force_weights)):
        if weights is None or isinstance(weights, str):
            continue
        if count is not None and len(weights) != count:
            raise InputError(f"{bead.where}: bead {bead.name} has {len(weights)} {label} for {count} atoms.")
        if label == "weights" and abs(sum(weights)) < 1e-12:
            raise InputError(f"{bead.where}: the weights of bead {bead.name} sum to zero.")
