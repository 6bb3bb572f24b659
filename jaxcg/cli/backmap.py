"""`jaxcg backmap`: from coarse-grained beads to all-atom structures."""

import argparse

from .options import count, frame_range, non_negative, positive, seed

#: Every file the verb may write.
OUTPUTS = (
    "map.pdb",
    "map.xtc",
    "ensemble.pdb",
    "ensemble.xtc",
    "system.xml",
    "topology.pdb",
    "report.html",
    "report.json",
)

_EXAMPLES = """\
examples:
  jaxcg backmap --example ubiquitin
  jaxcg backmap cg.pdb --mapping martini3 --forcefield amber14 --samples 16 --seed 1 -o out/
  jaxcg backmap cg.gro --trajectory cg.xtc --frames 0:100:10 -o out/
"""


def add_parser(verbs) -> None:
    """Adds the verb to the subparsers ``verbs``."""
    parser = verbs.add_parser(
        "backmap",
        help="all-atom structures (and an ensemble) from a coarse-grained structure or trajectory",
        description="All-atom structures, and an ensemble of them, from a coarse-grained structure or trajectory.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)

    given = parser.add_argument_group("input")
    given.add_argument("beads_file", nargs="?", metavar="CG", help="coarse-grained structure, PDB or GRO")
    given.add_argument("--example", metavar="NAME", help="use a structure inside the package: ubiquitin, villin")
    given.add_argument("--trajectory", metavar="FILE", help="coarse-grained trajectory, any format MDAnalysis reads")
    given.add_argument(
        "--frames",
        type=frame_range,
        metavar="A:B:C",
        help="frames of the trajectory, as a Python slice (default: all)",
    )
    given.add_argument(
        "--reference", metavar="FILE", help="all-atom structure of the same molecule: topology and names"
    )
    given.add_argument(
        "--start-from-reference", action="store_true", help="also start from the coordinates of the reference"
    )
    given.add_argument("--protonation", metavar="FILE", help="protonation states that differ from those at pH 7")

    model = parser.add_argument_group("model")
    model.add_argument(
        "--mapping", default="martini3", metavar="NAME", help="martini3, martini2 or a file (%(default)s)"
    )
    model.add_argument(
        "--forcefield",
        action="append",
        metavar="NAME",
        help="force field of OpenMM by short name or XML file; repeat for several (amber14)",
    )
    model.add_argument(
        "--solvent", default="none", choices=("none", "obc2", "gbn2"), help="implicit solvent (%(default)s)"
    )
    model.add_argument("--temperature", type=positive, default=300.0, metavar="K", help="temperature in K (300)")
    model.add_argument(
        "--beads",
        default="auto",
        choices=("auto", "exact", "soft"),
        help="hold the beads exactly, to a Gaussian, or decide for each frame (%(default)s)",
    )
    model.add_argument(
        "--bead-noise", type=positive, metavar="NM", help="standard deviation of soft beads in nm (0.03)"
    )
    model.add_argument(
        "--backbone-prior",
        type=non_negative,
        metavar="W",
        help="weight of the knowledge-based backbone prior, in kT; 0 turns it off "
        "(default: 5 for soft beads, 0 for exact ones)",
    )

    work = parser.add_argument_group("run")
    work.add_argument("--samples", type=count, default=0, metavar="N", help="draws from the posterior (0)")
    work.add_argument("--seed", type=seed, default=0, metavar="S", help="same seed, same files (0)")
    work.add_argument(
        "--precision", default="float32", choices=("float32", "float64"), help="of the minimisation (%(default)s)"
    )

    output = parser.add_argument_group("output")
    output.add_argument("-o", "--output", default="out", metavar="OUT", help="folder to write (%(default)s)")
    output.add_argument("--force", action="store_true", help="write into a folder that holds other files")
    output.add_argument("--quiet", action="store_true", help="only errors")
    output.add_argument("--json", action="store_true", help="a summary for machines on standard output")
