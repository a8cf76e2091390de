"""Masks against a slow construction from the paper, and sums of masks against adding them one by one."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from onnxsal.sampling.designs import Balanced, Independent
from onnxsal.sampling.masks import Draws, all_windows, layer_space, rise_space, window_space

WHOLE = (0, 0, 30, 23)
SIZE = (23, 30)


def enlarged(line: np.ndarray, length: int) -> np.ndarray:
    """Return a line of cells read at `length` pixel centres, continued as in a mirror that shows no edge twice."""
    padded = np.concatenate([line[1:2], line, line[-2:-1]])
    at = (np.arange(length) + 0.5) * len(line) / length - 0.5
    return np.interp(at, np.arange(-1, len(line) + 1), padded)


def slow_mask(cells: np.ndarray, y: int, x: int, size: tuple[int, int]) -> np.ndarray:
    """Return RISE's mask: the grid enlarged to (s + 1) cells of ceil(size / s) pixels, cut out at (y, x)."""
    long = [(n + 1) * -(-side // n) for n, side in zip(cells.shape, size, strict=True)]
    rows = np.stack([enlarged(column, long[0]) for column in cells.T], axis=1)
    whole = np.stack([enlarged(row, long[1]) for row in rows])
    return whole[y : y + size[0], x : x + size[1]]


@pytest.mark.parametrize("cells", [(7, 7), (4, 6), (2, 3)])
def test_masks_are_those_of_the_paper(cells):
    space = rise_space(WHOLE, SIZE, cells)
    draws = Independent(space, seed=3, keep=0.4).draw(0, 40)
    for i, mask in enumerate(space.render(draws)):
        assert_allclose(mask, slow_mask(draws.cells[i], draws.y[i], draws.x[i], SIZE), atol=1e-6)


def test_every_shift_within_a_cell_is_drawn():
    space = rise_space(WHOLE, SIZE, (7, 7))
    for design in (Independent(space, 0, 0.5), Balanced(space, 0)):
        draws = design.draw(0, 400)
        assert set(draws.y) == set(range(4))
        assert set(draws.x) == set(range(5))


def test_padding_is_never_masked():
    space = rise_space((4, 6, 26, 20), SIZE, (5, 5))
    masks = space.render(Independent(space, 0, 0.5).draw(0, 20))
    beyond = np.ones(SIZE, bool)
    beyond[6:20, 4:26] = False
    assert (masks[:, beyond] == 1).all()
    inner = rise_space((0, 0, 22, 14), (14, 22), (5, 5))
    assert_array_equal(masks[:, 6:20, 4:26], inner.render(Independent(inner, 0, 0.5).draw(0, 20)))


@pytest.mark.parametrize("every", [1, 3])
def test_sums_of_cells_are_sums_of_masks(every, rng):
    space = rise_space(WHOLE, SIZE, (7, 5))
    draws = Independent(space, 1, 0.5).draw(0, 200)
    weights, group = rng.standard_normal(200), rng.integers(0, 3, 200)
    sums = space.gather(draws, weights, group, 3)
    for k in range(3):
        slow = np.tensordot(weights[group == k], space.render(draws).astype(np.float64)[group == k], 1)
        assert_allclose(
            space.interpolate(sums[k], every=(every, every)),
            slow[every // 2 :: every, every // 2 :: every],
            rtol=1e-6,
            atol=1e-6,
        )


def test_windows_cover_all_and_end_with_the_photo():
    space = window_space((2, 0, 29, 23), SIZE, window=8, stride=3)
    draws = all_windows(space)
    hidden = 1 - space.render(draws)
    assert set(np.unique(hidden)) == {0, 1}
    assert (hidden.max(axis=0)[:, 2:29] == 1).all()
    assert (hidden[:, :, :2] == 0).all()
    assert (hidden[:, :, 29:] == 0).all()
    assert hidden[0, :8, 2:10].all()


def test_a_window_larger_than_the_photo_hides_it_whole():
    space = window_space((0, 0, 30, 23), SIZE, window=99, stride=5)
    assert len(all_windows(space)) == 1
    assert (space.render(all_windows(space)) == 0).all()


def test_a_layers_cells_are_enlarged_as_heatmaps_are(rng):
    from onnxsal.maps import enlarge

    cells = rng.random((3, 4, 5)).astype(np.float32)
    space = layer_space(SIZE, (4, 5))
    nothing = np.zeros(3, np.int64)
    assert_allclose(space.render(Draws(cells, nothing, nothing)), enlarge(cells, SIZE), atol=1e-6)


@pytest.mark.parametrize("content", [WHOLE, (4, 6, 26, 20), (0, 6, 30, 23), (3, 0, 30, 23)])
def test_what_lies_outside_can_be_made_by_more_cells(content):
    for space, draws in _some_masks(content):
        whole = space.framed()
        assert not whole.outside.any()
        made = whole.render(Draws(space.frame_cells(draws.cells), draws.y, draws.x))
        assert_array_equal(made, space.render(draws))


def _some_masks(content):
    space = rise_space(content, SIZE, (5, 4))
    yield space, Independent(space, 0, 0.5).draw(0, 20)
    windows = window_space(content, SIZE, 5, 3)
    yield windows, all_windows(windows)
    layer = layer_space(SIZE, (4, 6))
    yield layer, Draws(np.random.default_rng(0).random((3, 4, 6), np.float32), *np.zeros((2, 3), np.int64))
