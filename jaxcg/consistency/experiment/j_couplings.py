"""Three-bond scalar couplings from dihedral angles: the Karplus relation."""

from typing import Any, NamedTuple, cast

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from ...energy._geometry import corners, dihedral
from ...typing import Array, AtomVectors


class Karplus(NamedTuple):
    """³J(φ) = a cos²(φ + offset) + b cos(φ + offset) + c.

    Fields:
        a, b, c: Hz.
        offset: radians, from the dihedral of heavy atoms that is given to that of the coupled nuclei.
        error: scatter of measured couplings about the curve, Hz; nan where the source gives none.
    """

    a: float
    b: float
    c: float
    offset: float
    error: float = float("nan")


#: Relations of the backbone dihedral φ (C–N–CA–C), by coupling and source:
#: Hu & Bax, J. Am. Chem. Soc. 119, 6360 (1997); Schmidt, Blümel, Löhr & Rüterjans, J. Biomol. NMR 14, 1 (1999);
#: Vögeli, Ying, Grishaev & Bax, J. Am. Chem. Soc. 129, 9377 (2007).
KARPLUS = {
    "HN-HA (Hu & Bax 1997)": Karplus(7.09, -1.42, 1.55, -np.pi / 3, 0.39),
    "HN-HA (Schmidt et al. 1999)": Karplus(7.90, -1.05, 0.65, -np.pi / 3, 0.25),
    "HN-HA (Vögeli et al. 2007)": Karplus(8.40, -1.36, 0.33, -np.pi / 3, 0.36),
    "HN-C' (Vögeli et al. 2007)": Karplus(4.36, -1.08, -0.01, np.pi, 0.30),
    "HN-CB (Vögeli et al. 2007)": Karplus(3.71, -0.59, 0.08, np.pi / 3, 0.22),
}


class ScalarCouplings(eqx.Module):
    """³J of every coupling in one configuration, an observable to be averaged over an ensemble.

    The average of the couplings is measured, not the coupling of the average angle.

    Arguments:
        dihedrals: (couplings, 4) atoms of the dihedrals, such as C–N–CA–C of φ.
        relation: a `Karplus` for all, or (couplings, 4) its a, b, c (Hz) and offset (rad) for each; may be traced, to
            fit a relation.

    Raises:
        ValueError: shapes that do not fit.
    """

    dihedrals: np.ndarray
    coefficients: Array

    def __init__(self, dihedrals: Any, relation: Any = KARPLUS["HN-HA (Vögeli et al. 2007)"]):
        self.dihedrals = np.asarray(dihedrals, np.int32)
        if self.dihedrals.ndim != 2 or self.dihedrals.shape[1] != 4:
            raise ValueError(f"ScalarCouplings: dihedrals have shape {self.dihedrals.shape}, expected (couplings, 4).")
        coefficients = jnp.asarray(relation[:4] if isinstance(relation, Karplus) else relation)
        if coefficients.shape not in ((4,), (len(self.dihedrals), 4)):
            raise ValueError(f"ScalarCouplings: coefficients have shape {coefficients.shape}, expected (couplings, 4).")
        self.coefficients = jnp.broadcast_to(coefficients, (len(self.dihedrals), 4))

    def __call__(self, x: AtomVectors) -> Array:
        """(couplings,) Hz of positions ``x`` (atoms, 3) in nm, molecules whole."""
        x = jnp.asarray(x)
        a, b, c, offset = self.coefficients.astype(x.dtype).T
        p0, p1, p2, p3 = corners(x, cast(Any, self.dihedrals))
        cosine, sine, _ = dihedral(p0, p1, p2, p3)
        turned = cosine * jnp.cos(offset) - sine * jnp.sin(offset)
        return a * turned**2 + b * turned + c
