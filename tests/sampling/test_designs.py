"""Masks are the same whoever draws them; balanced ones balance."""

import math

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from onnxsal.sampling.designs import Balanced, Independent
from onnxsal.sampling.masks import rise_space
from onnxsal.sampling.streams import Purpose, below, normals, uniforms

SPACE = rise_space((0, 0, 32, 24), (24, 32), (5, 5))
DESIGNS = [Independent(SPACE, 7, 0.3), Balanced(SPACE, 7)]


@pytest.mark.parametrize("design", DESIGNS, ids=lambda d: type(d).__name__)
def test_a_mask_depends_on_its_index_alone(design):
    together = design.draw(0, 150)
    for start, stop in ((0, 1), (63, 66), (149, 150)):
        part = design.draw(start, stop)
        for name in ("cells", "y", "x"):
            assert_array_equal(getattr(part, name), getattr(together, name)[start:stop])


@pytest.mark.parametrize("design", DESIGNS, ids=lambda d: type(d).__name__)
def test_another_seed_draws_other_masks(design):
    other = type(design)(*[SPACE, 8, 0.3][: 3 if isinstance(design, Independent) else 2])
    assert (design.draw(0, 20).cells != other.draw(0, 20).cells).any()


def test_each_cell_stays_with_the_probability_asked_for():
    cells = Independent(SPACE, 0, 0.3).draw(0, 4000).cells
    assert np.abs(cells.mean(axis=0) - 0.3).max() < 5 * np.sqrt(0.21 / 4000)


def test_in_a_block_any_three_cells_are_uncorrelated():
    design = Balanced(SPACE, 0)
    signs = 2 * design.draw(design.block, 2 * design.block).cells.reshape(design.block, -1) - 1
    assert (signs.sum(axis=0) == 0).all()
    assert_array_equal(signs.T @ signs, design.block * np.eye(25))
    triples = np.einsum("na,nb,nc->abc", signs, signs, signs)
    a, b, c = np.mgrid[:25, :25, :25]
    assert (triples[(a != b) & (b != c) & (a != c)] == 0).all()


def test_a_mask_is_followed_by_its_complement_at_the_same_shift():
    drawn = Balanced(SPACE, 0).draw(0, 200)
    assert_array_equal(drawn.cells[::2] + drawn.cells[1::2], 1)
    for shifts in (drawn.y, drawn.x):
        assert_array_equal(shifts[::2], shifts[1::2])
        assert len(np.unique(shifts)) > 3


def test_blocks_differ():
    design = Balanced(SPACE, 0)
    one, other = design.draw(0, design.block).cells, design.draw(design.block, 2 * design.block).cells
    assert (one != other).any()


def test_cells_have_even_chances_at_any_number_of_masks():
    # Over many seeds, the first mask of a block keeps each cell in half of them: a part of a block is not biased.
    first = np.array([Balanced(SPACE, seed).draw(5, 6).cells.ravel() for seed in range(400)])
    assert np.abs(first.mean(axis=0) - 0.5).max() < 5 * np.sqrt(0.25 / 400)


def test_streams_of_other_purposes_and_seeds_have_nothing_in_common():
    streams = [uniforms(s, p, i, 50) for s in (0, 1) for p in (Purpose.CELLS, Purpose.SHIFTS) for i in (0, 1)]
    assert len({stream.tobytes() for stream in streams}) == len(streams)
    assert not np.array_equal(normals(0, Purpose.NOISE, 0, (3, 4)), normals(0, Purpose.NOISE, 1, (3, 4)))


def test_normal_numbers_are_normal_and_independent_of_each_other():
    drawn = np.stack([normals(0, Purpose.NOISE, i, (3, 67, 67)) for i in range(40)]).astype(np.float64)
    flat = np.sort(drawn.ravel())
    # Kolmogorov and Smirnov's distance to the normal distribution, which 1 of 1000 samples of it exceed.
    expected = np.array([0.5 * (1 + math.erf(value / math.sqrt(2))) for value in flat[::50]])
    assert np.abs(expected - (np.arange(len(flat))[::50] + 0.5) / len(flat)).max() < 1.95 / math.sqrt(len(flat))
    assert abs(np.mean(flat**4) - 3) < 0.1
    half = (drawn[0].size + 1) // 2
    for gap in (1, 67, 67 * 67, half):  # neighbours; and the two that are made of one radius
        pairs = drawn.reshape(40, -1)
        for power in (1, 2):
            a, b = pairs[:, :-gap].ravel() ** power, pairs[:, gap:].ravel() ** power
            assert abs(np.corrcoef(a, b)[0, 1]) < 5 / math.sqrt(a.size)


@pytest.mark.parametrize("shape", [(), (1,), (0, 3), (3, 5), (2, 2)])
def test_there_are_as_many_normal_numbers_as_asked_for(shape):
    drawn = normals(1, Purpose.NOISE, 2, shape)
    assert drawn.shape == shape
    assert drawn.dtype == np.float32
    assert np.isfinite(drawn).all()


def test_whole_numbers_below_a_bound_are_equally_likely():
    counts = np.bincount(below(7, uniforms(0, Purpose.SHIFTS, 0, 70_000)), minlength=7)
    assert np.abs(counts - 10_000).max() < 500
    assert below(7, np.array([0.0, np.nextafter(1, 0)])).tolist() == [0, 6]
