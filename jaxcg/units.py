"""One unit system for the whole program.

Lengths are nanometres, times picoseconds, masses atomic mass units (dalton), energies kJ/mol,
charges elementary charges and temperatures kelvin. These are consistent: 1 amu nm²/ps² = 1 kJ/mol.
"""

#: Molar gas constant (Boltzmann constant per mole), kJ/mol/K. CODATA 2018, exact.
GAS_CONSTANT = 8.31446261815324e-3

#: Coulomb constant 1/(4 pi eps0), kJ nm/mol/e². The value OpenMM uses, so energies agree to the last digit.
COULOMB_CONSTANT = 138.93545764498226

#: One kilocalorie in kJ.
KILOCALORIE = 4.184

#: One angstrom in nm.
ANGSTROM = 0.1

#: One bar in kJ/mol/nm³.
BAR = 0.06022140857


def thermal_energy(temperature: float) -> float:
    """Thermal energy kT in kJ/mol at ``temperature`` (K)."""
    return GAS_CONSTANT * temperature
