"""OpenMM's implicit-solvent forces turned into `GeneralizedBorn`.

`GBSAOBCForce` has its parameters as such. `CustomGBForce` is a formula: those that OpenMM's application layer writes
for the OBC and GBn families are recognised by their text, and any other formula is refused.
"""

import re

import numpy as np

from ..errors import InputError
from ._arrays import leaf
from ._openmm_values import columns, discrete_table, formula, plain
from .base import AbstractEnergy
from .born import GeneralizedBorn, Neck

_NO_CUTOFF, _CUTOFF_NON_PERIODIC = 0, 1
_SINGLE_PARTICLE, _PAIR_NO_EXCLUSIONS = 0, 2

_NUMBER = r"([-+0-9.eE]+)"
_OVERLAP = (
    "select(step(r+sr2-or1),0.5*(1/L-1/U+0.25*(r-sr2^2/r)*(1/(U^2)-1/(L^2))+0.5*log(L/U)/r),0);"
    "U=r+sr2;L=max(or1,D);D=abs(r-sr2)"
)
_NECK = (
    "Ivdw+neckScale*Ineck;Ineck=step(radius1+radius2+neckCut-r)*getm0(radindex1,radindex2)"
    "/(1+100*(r-getd0(radindex1,radindex2))^2+0.3*1000000*(r-getd0(radindex1,radindex2))^6);Ivdw="
)
_NECK_END = ";radius1=or1+offset;radius2=or2+offset;neckScale=NUMBER;neckCut=NUMBER;offset=NUMBER"
_RADIUS_END = ";psi=I*or;radius=or+offset;offset=NUMBER"
_CONTRAST = "(1/soluteDielectric-1/solventDielectric)"
_PARAMETERS = ";solventDielectric=NUMBER;soluteDielectric=NUMBER;kappa=NUMBER;offset=NUMBER"
_F = ";f=sqrt(r^2+B1*B2*exp(-r^2/(4*B1*B2)))"

# Coefficients of the radius function in the models that write them as numbers.
_RADIUS_MODELS = {
    "psi-0.8*psi^2+4.85*psi^3": (1.0, 0.8, 4.85),
    "0.8*psi+2.909125*psi^3": (0.8, 0.0, 2.909125),
    "1.09511284*psi-1.907992938*psi^2+2.50798245*psi^3": (1.09511284, 1.907992938, 2.50798245),
}
_ADVICE = "jaxcg knows OpenMM's OBC1, OBC2, GBn and GBn2; use solvent obc2 or gbn2"


def read_gbsa_obc(force, system, positions) -> list[AbstractEnergy]:
    """OBC2 as OpenMM's ``GBSAOBCForce``."""
    del system, positions
    cutoff = _cutoff(force, "GBSAOBCForce")
    charges, radii, scale = columns(force, force.getNumParticles(), "getParticleParameters")
    offset = 0.009
    return [
        GeneralizedBorn(
            charges,
            radii - offset,
            scale * (radii - offset),
            offset=offset,
            solute_dielectric=force.getSoluteDielectric(),
            solvent_dielectric=force.getSolventDielectric(),
            surface_energy=4.0 * np.pi * float(plain(force.getSurfaceAreaEnergy())),
            engulfing=True,
            cutoff=cutoff,
        )
    ]


def read_custom_gb(force, system, positions) -> list[AbstractEnergy]:
    """OBC1, OBC2, GBn or GBn2 as OpenMM's application layer writes them.

    Raises:
        InputError: any other formula.
    """
    del system, positions
    cutoff = _cutoff(force, "CustomGBForce")
    if force.getNumExclusions() or force.getNumGlobalParameters() or force.getNumComputedValues() != 2:
        raise InputError(f"The CustomGBForce is not one jaxcg recognises; {_ADVICE}.")
    names = [force.getPerParticleParameterName(i) for i in range(force.getNumPerParticleParameters())]
    rows = np.array([force.getParticleParameters(i) for i in range(force.getNumParticles())], dtype=np.float64)
    values = dict(zip(names, rows.T))
    if names[:3] != ["charge", "or", "sr"]:
        raise InputError(f"The CustomGBForce has per-particle parameters {names}; {_ADVICE}.")
    neck = _read_integral(force, values)
    (alpha, beta, gamma), offset = _read_radius(force, values)
    settings = _read_energy(force, cutoff is not None)
    return [
        GeneralizedBorn(
            values["charge"],
            values["or"],
            values["sr"],
            offset=offset,
            alpha=alpha,
            beta=beta,
            gamma=gamma,
            neck=neck,
            cutoff=cutoff,
            **settings,
        )
    ]


def _cutoff(force, name: str) -> float | None:
    """Cutoff in nm, None without one."""
    method = force.getNonbondedMethod()
    if method not in (_NO_CUTOFF, _CUTOFF_NON_PERIODIC):
        raise InputError(f"The {name} is periodic, which jaxcg does not evaluate; use NoCutoff or CutoffNonPeriodic.")
    return float(plain(force.getCutoffDistance())) if method == _CUTOFF_NON_PERIODIC else None


def _match(template: str, expression: str) -> list[float] | None:
    """Numbers in ``expression`` at the places of NUMBER in ``template``, or None when they differ."""
    pattern = re.escape(formula(template)).replace("NUMBER", _NUMBER)
    found = re.fullmatch(pattern, formula(expression))
    return None if found is None else [float(g) for g in found.groups()]


def _read_integral(force, values: dict[str, np.ndarray]) -> Neck | None:
    name, expression, kind = force.getComputedValueParameters(0)
    if name == "I" and kind == _PAIR_NO_EXCLUSIONS:
        if _match(_OVERLAP, expression) is not None:
            return None
        numbers = _match(_NECK + _OVERLAP + _NECK_END, expression)
        if numbers is not None and "radindex" in values:
            scale, reach, _ = numbers
            tables = {
                force.getTabulatedFunctionName(k): discrete_table(force.getTabulatedFunction(k))
                for k in range(force.getNumTabulatedFunctions())
            }
            return Neck(
                leaf(tables["getd0"]),
                leaf(tables["getm0"]),
                leaf(values["radindex"].astype(np.int32)),
                leaf(scale),
                leaf(reach),
            )
    raise InputError(f"The CustomGBForce computes {name} by a formula that jaxcg does not recognise; {_ADVICE}.")


def _read_radius(force, values: dict[str, np.ndarray]):
    """Coefficients (α, β, γ) of the radius function and the radius offset."""
    name, expression, kind = force.getComputedValueParameters(1)
    if name == "B" and kind == _SINGLE_PARTICLE:
        for polynomial, coefficients in _RADIUS_MODELS.items():
            numbers = _match(f"1/(1/or-tanh({polynomial})/radius)" + _RADIUS_END, expression)
            if numbers is not None:
                return coefficients, numbers[0]
        numbers = _match("1/(1/or-tanh(alpha*psi-beta*psi^2+gamma*psi^3)/radius)" + _RADIUS_END, expression)
        if numbers is not None and {"alpha", "beta", "gamma"} <= values.keys():
            return (values["alpha"], values["beta"], values["gamma"]), numbers[0]
    raise InputError(f"The CustomGBForce computes {name} by a formula that jaxcg does not recognise; {_ADVICE}.")


def _read_energy(force, with_cutoff: bool) -> dict:
    """Dielectrics, screening, surface term and Coulomb constant from the energy terms."""
    settings: dict = {"surface_energy": 0.0, "screening": None}
    parameters = _PARAMETERS + (";cutoff=NUMBER" if with_cutoff else "")
    salty = _CONTRAST.replace("1/solventDielectric", "exp(-kappa*X)/solventDielectric")
    denominator = "(1/f-NUMBER)" if with_cutoff else "/f"
    times = "*" if with_cutoff else ""
    own_seen = pair_seen = False
    for k in range(force.getNumEnergyTerms()):
        expression, kind = force.getEnergyTermParameters(k)
        if kind == _SINGLE_PARTICLE:
            surface = _match("NUMBER*(radius+0.14)^2*(radius/B)^6;radius=or+offset" + parameters, expression)
            if surface is not None:
                settings["surface_energy"] = surface[0]
                continue
        for contrast in (_CONTRAST, salty):
            own = _match(f"-0.5*NUMBER*{contrast.replace('X', 'B')}*charge^2/B" + parameters, expression)
            pair = _match(
                f"-NUMBER*{contrast.replace('X', 'f')}*charge1*charge2{times}{denominator}" + _F + parameters,
                expression,
            )
            numbers = own if kind == _SINGLE_PARTICLE else pair if kind == _PAIR_NO_EXCLUSIONS else None
            if numbers is not None:
                break
        else:
            raise InputError(f"The CustomGBForce has an energy term that jaxcg does not recognise; {_ADVICE}.")
        own_seen, pair_seen = own_seen or kind == _SINGLE_PARTICLE, pair_seen or kind == _PAIR_NO_EXCLUSIONS
        solvent, solute, kappa, _ = numbers[-5:-1] if with_cutoff else numbers[-4:]
        settings["coulomb_constant"] = numbers[0]
        settings["solvent_dielectric"], settings["solute_dielectric"] = solvent, solute
        settings["screening"] = kappa if kappa > 0 else None
    if not (own_seen and pair_seen):
        raise InputError(f"The CustomGBForce lacks the self or the pair energy of generalised Born; {_ADVICE}.")
    return settings
