"""Maps are resampled by the few weights that are not zero, to what the products of whole matrices are."""

import numpy as np
import pytest

from onnxsal.image.resampling import interpolation_matrix, resample, resize_map, resize_matrix


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize(
    ("shape", "size"),
    [((7, 9), (31, 20)), ((2, 3, 31, 20), (7, 9)), ((1, 5, 5), (5, 5)), ((224, 3), (1, 200)), ((1, 1), (4, 5))],
)
def test_a_map_is_resampled_as_by_matrices(shape, size, antialias):
    rng = np.random.default_rng(0)
    maps = rng.standard_normal(shape)
    rows, columns = (resize_matrix(a, b, antialias=antialias) for a, b in zip(shape[-2:], size, strict=True))
    found = resize_map(maps, size, antialias=antialias)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, rows.astype(float) @ maps @ columns.T.astype(float), atol=1e-6)


def test_rows_without_weights_are_zero():
    rows = np.zeros((70, 5), np.float32)
    rows[3:67] = interpolation_matrix(np.linspace(0, 5, 64), 5)
    found = resample(np.ones((5, 2)), rows, np.eye(2, dtype=np.float32))
    np.testing.assert_allclose(found[3:67], 1, atol=1e-6)
    assert not found[:3].any()
    assert not found[67:].any()


def test_what_is_no_number_stays_where_it_is():
    maps = np.ones((4, 4))
    maps[0, 0] = np.nan
    found = resize_map(maps, (8, 8), antialias=False)
    assert np.isnan(found[:3, :3]).any()
    assert (found[4:] == 1).all()
