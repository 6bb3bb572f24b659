"""Stillinger–Weber silicon and mW water against sums over triplets as they are written."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcg.energy import MW_WATER, SILICON, StillingerWeber, StillingerWeberTriplets, stillinger_weber

ELECTRONVOLT = 96.48533212331


evaluate = eqx.filter_jit(lambda energy, x: energy(x))


def diamond(cells: int, length: float = 0.5431) -> tuple[np.ndarray, np.ndarray]:
    face = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    corners = np.stack(np.meshgrid(*[np.arange(cells)] * 3), axis=-1).reshape(-1, 3)
    x = (corners[:, None] + np.concatenate([face, face + 0.25])).reshape(-1, 3)
    return length * x, cells * length * np.eye(3)


def written_out(p: StillingerWeber, x, box):
    """The two-body and the three-body energy, and Σ over atoms of −x·∂U/∂x of each triplet, term by term."""
    pairs = triplets = virial = 0.0
    end = p.range_ * p.sigma
    for centre in range(len(x)):
        d = x - x[centre]
        k = np.round(d @ np.linalg.inv(box))
        d = d - k @ box
        r = np.linalg.norm(d, axis=1)
        near = [j for j in range(len(x)) if j != centre and r[j] < end]
        for a, j in enumerate(near):
            pairs += (
                0.5
                * p.pair_strength
                * p.epsilon
                * (p.repulsion * (p.sigma / r[j]) ** 4 - 1)
                * np.exp(p.sigma / (r[j] - end))
            )
            for i in near[a + 1 :]:

                def u(stretch, i=i, j=j, d=d, r=r):
                    first, second = r[i] * stretch, r[j] * stretch
                    cosine = d[i] @ d[j] / (r[i] * r[j])
                    decay = np.exp(p.triplet_decay * p.sigma * (1 / (first - end) + 1 / (second - end)))
                    return p.triplet_strength * p.epsilon * (cosine - p.cosine) ** 2 * decay

                triplets += u(1.0)
                virial -= (u(1 + 1e-6) - u(1 - 1e-6)) / 2e-6
    return pairs, triplets, virial


def test_cohesive_energy_of_silicon(x64):
    x, box = diamond(2)
    energy = stillinger_weber(SILICON, len(x), box=box)
    per_atom = evaluate(energy, x) / len(x) / ELECTRONVOLT
    assert abs(per_atom + 4.33660) < 5e-6
    triplets = energy.terms()[1]
    assert abs(evaluate(triplets, x)) < 1e-9  # every angle is tetrahedral
    # The lattice constant is that of least energy.
    for stretch in (0.999, 1.001):
        stretched = evaluate(energy.with_box(stretch * jnp.asarray(box)), stretch * x)
        assert stretched / len(x) / ELECTRONVOLT > per_atom


def disordered(cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Water at liquid density in a tilted box, its molecules strewn about a lattice, some of them in other boxes."""
    rng = np.random.default_rng(3)
    box = np.array([[2.5, 0, 0], [0.3, 2.45, 0], [-0.2, 0.5, 2.48]]) * cells / 8
    lattice = np.stack(np.meshgrid(*[np.arange(cells)] * 3), axis=-1).reshape(-1, 3)
    fraction = (lattice + 0.35 * rng.random(lattice.shape)) / cells
    return fraction @ box + rng.integers(-1, 2, lattice.shape) @ box, box


def values_and_virials(energy, x, box):
    """U and Σ r·f of every term."""

    def terms(strain):
        return jnp.stack([term((1 + strain) * x) for term in energy.with_box((1 + strain) * box).terms()])

    values, slopes = jax.jvp(terms, (0.0,), (1.0,))
    return values, -slopes


@pytest.mark.parametrize("cells", [4, pytest.param(8, marks=pytest.mark.slow)])
def test_triplets_are_those_written_out(x64, cells):
    x, box = disordered(cells)
    energy = stillinger_weber(MW_WATER, len(x), box=box, positions=x)
    pairs, triplets, virial = written_out(MW_WATER, x, box)
    values, virials = eqx.filter_jit(values_and_virials)(energy, x, box)
    np.testing.assert_allclose(values, [pairs, triplets], rtol=1e-10)
    np.testing.assert_allclose(virials[1], virial, rtol=1e-7)
    if cells > 4:
        everyone = stillinger_weber(MW_WATER, len(x), box=box)
        np.testing.assert_allclose(evaluate(everyone, x), np.sum(values), rtol=1e-12)


@eqx.filter_jit
def gradient_of(energy, x):
    return jax.grad(energy)(x)


def test_forces(x64):
    x, box = disordered(4)
    hand = np.random.default_rng(4).standard_normal(x.shape)
    energy = StillingerWeberTriplets(MW_WATER, len(x), box=box)
    numeric = (evaluate(energy, x + 1e-6 * hand) - evaluate(energy, x - 1e-6 * hand)) / 2e-6
    gradient = gradient_of(energy, x)
    np.testing.assert_allclose(np.sum(gradient * hand), numeric, rtol=1e-7)
    np.testing.assert_allclose(np.sum(gradient, axis=0), 0.0, atol=1e-8)


@pytest.mark.slow
def test_second_derivatives_and_those_by_parameters(x64):
    x, box = disordered(4)
    hand = jnp.asarray(np.random.default_rng(4).standard_normal(x.shape))
    energy = StillingerWeberTriplets(MW_WATER, len(x), box=box)
    curvature = eqx.filter_jit(lambda e, x, v: jax.jvp(jax.grad(e), (x,), (v,))[1])(energy, jnp.asarray(x), hand)
    numeric = (gradient_of(energy, x + 1e-6 * hand) - gradient_of(energy, x - 1e-6 * hand)) / 2e-6
    np.testing.assert_allclose(curvature, numeric, atol=1e-6 * np.abs(numeric).max())
    parameters = eqx.filter_jit(eqx.filter_grad(lambda e, x: e(x)))(energy, x)
    for name in ("strength", "cosine", "decay", "sigma", "range_"):
        value = getattr(energy, name)
        moved = [eqx.tree_at(lambda e, n=name: getattr(e, n), energy, value + s * 1e-7) for s in (1, -1)]
        numeric = (evaluate(moved[0], x) - evaluate(moved[1], x)) / 2e-7
        np.testing.assert_allclose(getattr(parameters, name), numeric, rtol=1e-5)


@pytest.mark.slow
def test_single_precision_and_lists():
    x, box = disordered(8)
    single, edges = x.astype(np.float32), box.astype(np.float32)
    energy = stillinger_weber(MW_WATER, 512, box=edges, positions=single, skin=0.05)
    value, gradient = evaluate(energy, single), gradient_of(energy, single)
    assert value.dtype == gradient.dtype == jnp.float32
    with jax.enable_x64(True):
        double = stillinger_weber(MW_WATER, 512, box=edges.astype(float))
        expected = np.asarray(evaluate(double, single.astype(float)))
        slope = np.asarray(gradient_of(double, single.astype(float)))
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(gradient, slope, atol=2e-5 * np.abs(slope).max())
    assert not energy.stale(single)
    assert energy.stale(single + np.float32(0.03))
    tight = stillinger_weber(MW_WATER, 512, box=edges, positions=single, room=(8, 1))
    assert np.isnan(evaluate(tight, single))
    np.testing.assert_allclose(evaluate(tight.rebuild(single), single), value, rtol=1e-5)


def test_atoms_in_one_place():
    heap = jnp.zeros((4, 3), jnp.float32)
    assert np.isfinite(gradient_of(StillingerWeberTriplets(MW_WATER, 4), heap)).all()


def test_refusals():
    with pytest.raises(ValueError, match="more than half the box"):
        stillinger_weber(MW_WATER, 8, box=0.8 * np.eye(3))
    with pytest.raises(ValueError, match="shorter than the potential"):
        StillingerWeberTriplets(MW_WATER, 8, reach=0.4)
