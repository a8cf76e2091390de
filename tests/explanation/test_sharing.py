"""Models beyond 2 GB: their weights stay where they are."""

import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner

import onnxsal
from onnxsal.cli import cli
from onnxsal.explanation import compiled, portable, sharing

CHANNELS = 512
SEEN = 7  # the only class whose weights are not zero


def parts(rng):
    """Return a kernel and one class's weights."""
    return rng.standard_normal((CHANNELS, 3, 3, 3), np.float32), rng.standard_normal(CHANNELS).astype(np.float32)


def save(folder: Path, kernel: np.ndarray, row: np.ndarray, classes: int, head: str = "Gemm") -> Path:
    """Write a classifier with a sparse file of weights: zeros take no room on the disk."""
    size = CHANNELS * classes * 4
    with open(folder / "weights.bin", "wb") as file:
        file.truncate(size + kernel.nbytes)
        for channel, weight in enumerate(row):
            file.seek((channel * classes + SEEN) * 4)
            file.write(weight.tobytes())
        file.seek(size)
        file.write(kernel.tobytes())
    text = (
        f'<ir_version: 8, opset_import: ["" : 17]> g (float[n,3,16,16] image) => (float[n,{classes}] logits) {{ '
        "a = Conv<strides=[2,2], pads=[1,1,1,1]>(image, k) r = Relu(a) p = GlobalAveragePool(r) f = Flatten(p) "
        f"logits = {head}(f, w) }}"
    )
    model = onnx.parser.parse_model(text)
    for name, shape, offset in (("w", [CHANNELS, classes], 0), ("k", kernel.shape, size)):
        tensor = model.graph.initializer.add(name=name, data_type=1, dims=shape, data_location=1)
        for key, value in (("location", "weights.bin"), ("offset", offset), ("length", 4 * int(np.prod(shape)))):
            tensor.external_data.add(key=key, value=str(value))
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return folder / "model.onnx"


@pytest.fixture
def small_limit(monkeypatch):
    """Take everything for too large."""
    for module in (compiled, portable, sharing):
        monkeypatch.setattr(module, "PROTOBUF_LIMIT", 10_000)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ONNXSAL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def explain(path, x):
    explanation = onnxsal.load(path).explain(x, method="gradient", target=SEEN)
    return explanation.attribution, explanation.score


def check_alike(found, wanted):
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-4, atol=1e-6)
    assert found[1] == pytest.approx(wanted[1], rel=1e-5)


@pytest.mark.parametrize("head", ["Gemm", "MatMul"])
def test_kept_graphs_hold_no_weights_and_find_them_where_the_model_is_now(head, tmp_path, cache, rng, monkeypatch):
    (tmp_path / "here").mkdir()
    path = save(tmp_path / "here", *parts(rng), classes=2000, head=head)
    x = rng.standard_normal((2, 3, 16, 16)).astype(np.float32)
    wanted = [explain(path, one[None]) for one in x]
    shutil.rmtree(cache)
    for module in (compiled, portable, sharing):
        monkeypatch.setattr(module, "PROTOBUF_LIMIT", 10_000)
    check_alike(explain(path, x[:1]), wanted[0])
    (kept,) = cache.glob("*.onnx")
    assert kept.stat().st_size < 10_000
    before = kept.stat().st_ino
    shutil.move(tmp_path / "here", tmp_path / "there")
    check_alike(explain(tmp_path / "there" / "model.onnx", x[1:]), wanted[1])
    (kept,) = cache.glob("*.onnx")
    assert kept.stat().st_ino == before


def test_a_weight_that_the_optimiser_would_compute_with_is_lent_all_the_same(tmp_path, cache, rng, monkeypatch):
    path = save(tmp_path, *parts(rng), classes=2000)
    x = rng.standard_normal((1, 3, 16, 16)).astype(np.float32)
    wanted = explain(path, x)
    shutil.rmtree(cache)
    for module in (compiled, portable, sharing):
        monkeypatch.setattr(module, "PROTOBUF_LIMIT", 10_000)
    monkeypatch.setattr("onnxsal.session.lending.WORTH_LENDING", 1)
    check_alike(explain(path, x), wanted)


@pytest.mark.usefixtures("small_limit", "cache")
def test_an_explainer_written_beside_the_model_shares_its_weights(tmp_path, rng):
    (tmp_path / "here").mkdir()
    path = save(tmp_path / "here", *parts(rng), classes=2000)
    result = CliRunner().invoke(cli, ["compile", str(path), "-m", "gradient", "-o", str(path.parent / "why.onnx")])
    assert result.exit_code == 0, result.output
    assert (path.parent / "why.onnx").stat().st_size < 10_000
    shutil.move(tmp_path / "here", tmp_path / "there")
    session = onnxruntime.InferenceSession(tmp_path / "there" / "why.onnx", providers=["CPUExecutionProvider"])
    x = rng.standard_normal((1, 3, 16, 16)).astype(np.float32)
    (found,) = session.run(["attribution"], {"image": x, "target": np.array([SEEN])})
    check_alike((found[0], 0), (explain(tmp_path / "there" / "model.onnx", x)[0], 0))


@pytest.mark.usefixtures("small_limit", "cache")
def test_an_explainer_that_would_need_the_weights_twice_is_refused(tmp_path, rng):
    path = save(tmp_path, *parts(rng), classes=2000)
    (tmp_path / "other").mkdir()
    result = CliRunner().invoke(cli, ["compile", str(path), "-o", str(tmp_path / "other" / "why.onnx")])
    assert result.exit_code == 2
    assert "write the explainer beside the model, whose weights it then shares" in result.output.replace("\n", " ")


def own_megabytes() -> float:
    """Return the memory that is the process's own: files mapped into it are not counted."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1e3


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts memory as Linux does")
def test_a_model_of_more_than_2_gb_is_explained_without_a_copy_of_its_weights(tmp_path, cache, rng):
    kernel, row = parts(rng)
    (tmp_path / "small").mkdir()
    (tmp_path / "large").mkdir()
    small, large = (
        save(tmp_path / name, kernel, row, classes) for name, classes in (("small", 100), ("large", 1_100_000))
    )
    if (large.parent / "weights.bin").stat().st_blocks > 10_000:
        pytest.skip("the file system has no sparse files")
    x = rng.standard_normal((1, 3, 16, 16)).astype(np.float32)
    wanted, before = explain(small, x), own_megabytes()
    check_alike(explain(large, x), wanted)
    assert own_megabytes() - before < 200
    assert all(kept.stat().st_size < 1_000_000 for kept in cache.iterdir())
