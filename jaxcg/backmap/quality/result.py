"""`Quality`: the outcome of judging one structure."""

from dataclasses import asdict, dataclass, field
from typing import Any

#: Names of the counts that must be zero in a sound structure.
ERRORS = (
    "stereo_errors",
    "stereo_flat",
    "peptides_cis",
    "peptides_twisted",
    "double_bond_errors",
    "rings_pierced",
    "bonds_off",
    "contacts_012",
    "contacts_022",
)


@dataclass(frozen=True)
class Offender:
    """One thing that is wrong: where, in words and in atoms, and by how much.

    Arguments:
        label: residues and atoms in words, e.g. ``"CA of LYS 33 (chain A)"``.
        atoms: atom indices involved.
        residues: residue indices involved.
        value: the offending figure, in the unit of its metric (degrees, nm, per cent).
    """

    label: str
    atoms: tuple[int, ...]
    residues: tuple[int, ...]
    value: float


@dataclass(frozen=True)
class Quality:
    """Figures about one all-atom structure; None where a figure could not be measured.

    Lengths are in nm, angles in degrees, shares in per cent.

    Arguments:
        stereo_centers: number of stereo centres looked at.
        stereo_errors: centres of the wrong hand.
        stereo_flat: centres of the right hand but with less than 0.4 of a tetrahedron's volume.
        peptides: number of peptide bonds looked at.
        peptides_cis: cis peptides where trans belongs (or the other way round), not before proline.
        peptides_cis_proline: cis peptides before proline; a finding, not an error.
        peptides_twisted: peptides more than 30° off both planes, before proline too.
        double_bond_errors: other stereo double bonds more than 30° from their configuration.
        rings: number of rings of 4 to 7 atoms.
        rings_pierced: rings with a bond through them.
        ring_planarity: largest distance of an atom from the mean plane of an sp2 ring.
        bonds: number of bonds with a known ideal length.
        bonds_within_10: share of bonds within 10 % of their ideal length.
        bonds_off: number of bonds further off than that.
        bond_rms: root mean square relative deviation of bonds, per cent.
        bond_worst: largest relative deviation, per cent.
        angle_rms: root mean square deviation of angles.
        contacts_012: pairs of heavy atoms, more than three bonds apart, closer than 0.12 nm.
        contacts_022: the same closer than 0.22 nm, without pairs that could be hydrogen bonds.
        contacts_022_hydrogen_bonds: pairs closer than 0.22 nm that could be hydrogen bonds.
        shortest_contact: shortest distance between heavy atoms more than three bonds apart, up to 0.3.
        ramachandran_residues: number of residues with both torsions.
        ramachandran_favoured, ramachandran_allowed, ramachandran_outlier: shares of them.
        bead_rms, bead_max: distance of mapped beads from the given ones, rms over beads and largest.
        rmsd_heavy, rmsd_backbone: to the reference as they lie (the beads fix the frame).
        rmsd_heavy_symmetric: the same with atoms that are alike (Phe and Tyr CD/CE, Asp OD, Glu OE, Arg NH) paired
            the closer way round.
        rmsd_heavy_fitted, rmsd_backbone_fitted: after the best superposition.
        phi_psi_agreement: share of residues with φ and ψ within 45° of the reference.
        chi1_agreement: share of side chains with χ1 within 40° of the reference.
        hydrogen_bonds_kept: share of the reference's backbone hydrogen bonds (N–O below 0.35 nm, at least two
            residues apart) still there.
        hydrogen_bonds_reference: how many the reference has.
        offenders: for each count above, what makes it up.
        phi_psi: per residue with both torsions ``(residue index, φ, ψ, class, region)``; region 2 favoured,
            1 allowed, 0 outlier.
    """

    stereo_centers: int
    stereo_errors: int
    stereo_flat: int
    peptides: int
    peptides_cis: int
    peptides_cis_proline: int
    peptides_twisted: int
    double_bond_errors: int
    rings: int
    rings_pierced: int
    ring_planarity: float
    contacts_012: int
    contacts_022: int
    contacts_022_hydrogen_bonds: int
    shortest_contact: float
    bonds: int | None = None
    bonds_within_10: float | None = None
    bonds_off: int | None = None
    bond_rms: float | None = None
    bond_worst: float | None = None
    angle_rms: float | None = None
    ramachandran_residues: int = 0
    ramachandran_favoured: float | None = None
    ramachandran_allowed: float | None = None
    ramachandran_outlier: float | None = None
    bead_rms: float | None = None
    bead_max: float | None = None
    rmsd_heavy: float | None = None
    rmsd_heavy_symmetric: float | None = None
    rmsd_backbone: float | None = None
    rmsd_heavy_fitted: float | None = None
    rmsd_backbone_fitted: float | None = None
    phi_psi_agreement: float | None = None
    chi1_agreement: float | None = None
    hydrogen_bonds_kept: float | None = None
    hydrogen_bonds_reference: int | None = None
    offenders: dict[str, tuple[Offender, ...]] = field(default_factory=dict)
    phi_psi: tuple[tuple[int, float, float, str, int], ...] = ()

    @property
    def errors(self) -> dict[str, int]:
        """The counts that must be zero and are not, by name."""
        counts = {name: getattr(self, name) for name in ERRORS}
        return {name: count for name, count in counts.items() if count}

    @property
    def sound(self) -> bool:
        """True when nothing is wrong with the structure."""
        return not self.errors

    def offending_residues(self, *names: str) -> tuple[int, ...]:
        """Indices of the residues that have one of the errors ``names`` (every error when none is named)."""
        found = {r for name in names or ERRORS for offender in self.offenders.get(name, ()) for r in offender.residues}
        return tuple(sorted(found))

    def figures(self) -> dict[str, float | int | None]:
        """Every single-valued figure by name."""
        return {name: value for name, value in asdict(self).items() if name not in ("offenders", "phi_psi")}

    def to_dict(self) -> dict[str, Any]:
        """Everything in plain types that `json.dumps` takes."""
        return {
            **self.figures(),
            "offenders": {
                name: [
                    {**asdict(offender), "atoms": list(offender.atoms), "residues": list(offender.residues)}
                    for offender in found
                ]
                for name, found in self.offenders.items()
            },
            "phi_psi": [list(row) for row in self.phi_psi],
        }

    def summary(self) -> str:
        """A few lines for the terminal: figures first, then the first offenders of each kind."""
        lines = [
            f"stereo centres   {self.stereo_errors} wrong, {self.stereo_flat} flat of {self.stereo_centers}",
            f"peptides         {self.peptides_cis} cis, {self.peptides_twisted} twisted of {self.peptides}"
            + (f", {self.peptides_cis_proline} cis before proline" if self.peptides_cis_proline else ""),
            f"rings            {self.rings_pierced} pierced of {self.rings}",
            f"contacts         {self.contacts_012} below 0.12 nm, {self.contacts_022} below 0.22 nm",
        ]
        if self.double_bond_errors:
            lines.append(f"double bonds     {self.double_bond_errors} wrong")
        if self.bonds:
            lines.append(
                f"bonds            {self.bonds_within_10:.1f} % within 10 % of ideal, rms {self.bond_rms:.2f} %, "
                f"worst {self.bond_worst:.1f} %"
            )
        if self.ramachandran_favoured is not None:
            lines.append(
                f"Ramachandran     {self.ramachandran_favoured:.1f} % favoured, "
                f"{self.ramachandran_outlier:.1f} % outliers"
            )
        if self.bead_rms is not None:
            lines.append(f"beads            rms {self.bead_rms:.2g} nm, largest {self.bead_max:.2g} nm")
        if self.rmsd_heavy is not None:
            lines.append(f"to reference     heavy atoms {self.rmsd_heavy:.3f} nm, backbone {self.rmsd_backbone:.3f} nm")
        for name, found in self.offenders.items():
            if found:
                shown = ", ".join(offender.label for offender in found[:3])
                more = f" and {len(found) - 3} more" if len(found) > 3 else ""
                lines.append(f"  {name.replace('_', ' ')}: {shown}{more}")
        return "\n".join(lines)
