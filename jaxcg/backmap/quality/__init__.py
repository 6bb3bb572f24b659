"""Is an all-atom structure sound? Counts, figures and the offenders behind them.

`quality` looks at one structure: stereochemistry, peptide bonds, pierced rings, bond lengths, contacts, backbone
torsions, and, where given, the beads it was made from and a structure to compare with. It is NumPy and SciPy only
and takes milliseconds, so every frame and every sample can be judged. `Quality` holds the outcome.
"""

from .evaluate import quality
from .result import Quality

__all__ = ["Quality", "quality"]
