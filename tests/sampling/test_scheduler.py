"""Loops: any batch, order, number of workers, interruption: the same result."""

import os
import signal
import time

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from onnxsal.errors import OutOfMemory, OutputError
from onnxsal.sampling.moments import Moments
from onnxsal.sampling.scheduler import Schedule, next_look, sweep
from onnxsal.sampling.tallies import Checkpoint, Scores


def of_index(start: int, stop: int) -> np.ndarray:
    index = np.arange(start, stop)
    return np.stack([np.sin(index), np.cos(3 * index)], axis=1).astype(np.float32)


answer = of_index


def slow_at_first(start: int, stop: int) -> np.ndarray:
    time.sleep(0.02 if start % 3 == 0 else 0)
    return answer(start, stop)


def run(total=200, batch=7, workers=1, tally=None, of=answer, **kw):
    tally = tally or Scores(total, 2)
    states = list(sweep(of, tally, Schedule(total, batch, workers), **kw))
    return tally, states


@pytest.mark.parametrize(("batch", "workers"), [(1, 1), (64, 1), (500, 1), (7, 2), (3, 4)])
def test_batches_and_workers_change_nothing(batch, workers):
    assert_array_equal(run(batch=batch, workers=workers, of=slow_at_first)[0].scores, answer(0, 200))


@pytest.mark.parametrize("workers", [1, 3])
def test_moments_are_summed_in_order_of_index(workers, rng):
    arrays = rng.standard_normal((50, 4, 5)).astype(np.float32) * 10.0 ** rng.integers(-6, 6, (50, 1, 1))
    found = []
    for batch in (1, 8):
        moments = Moments(50, targets=2)
        list(sweep(lambda i, j: [arrays[i:j], -arrays[i:j, 0]], moments, Schedule(50, batch, workers)))
        found.append(moments.of(0))
        assert_array_equal(moments.of(1).mean(), -found[-1].mean()[0])
    assert_array_equal(found[0].mean(), found[1].mean())
    assert_array_equal(found[0].error(), found[1].error())
    doubles = arrays.astype(np.float64)
    np.testing.assert_allclose(found[0].mean(), doubles.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found[0].variance, doubles.var(axis=0), rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(found[0].error() * np.sqrt(50), doubles.std(axis=0, ddof=1), rtol=1e-6)


def test_looks_come_at_doubling_numbers_and_at_the_end():
    _, states = run(total=300, batch=10)
    assert [s.done for s in states] == [70, 130, 260, 300]
    assert states[-1].seconds_left == 0


def test_the_next_look_is_a_power_of_two():
    assert [next_look(n) for n in (0, 63, 64, 100, 128)] == [64, 64, 128, 128, 256]


def test_progress_is_told_after_every_run():
    told = []
    run(total=30, batch=10, progress=told.append)
    assert [(s.done, s.total) for s in told] == [(10, 30), (20, 30), (30, 30)]


def test_a_loop_ends_once_it_is_sure_enough():
    tally = Scores(10_000, 2, error=lambda scores: 1 / np.sqrt(len(scores)))
    states = list(sweep(answer, tally, Schedule(10_000, 8, tolerance=0.05)))
    assert tally.done == 512
    assert states[-1].error == pytest.approx(1 / np.sqrt(512))


@pytest.mark.parametrize("kind", ["scores", "moments"])
def test_an_interrupted_loop_goes_on_where_it_stopped(kind, tmp_path):
    def tally(name="loop.npz"):
        checkpoint = Checkpoint(tmp_path / name, "this job")
        return Scores(200, 2, checkpoint=checkpoint) if kind == "scores" else Moments(200, checkpoint=checkpoint)

    def answer(start, stop):
        return of_index(start, stop) if kind == "scores" else [of_index(start, stop)]

    def breaks(start, stop):
        if start >= 100:
            raise KeyboardInterrupt
        return answer(start, stop)

    with pytest.raises(KeyboardInterrupt):
        list(sweep(breaks, tally(), Schedule(200, 10)))
    asked = []
    resumed = tally()
    assert resumed.done == 100
    list(sweep(lambda i, j: (asked.append(i), answer(i, j))[1], resumed, Schedule(200, 10)))
    assert asked == list(range(100, 200, 10))
    whole = tally("whole.npz")
    list(sweep(answer, whole, Schedule(200, 10)))
    ends = [t.scores if kind == "scores" else list(t.of(0).means.values()) for t in (resumed, whole)]
    assert_array_equal(*ends)
    assert {p.name for p in tmp_path.iterdir()} == {"loop.npz", "whole.npz"}


def test_a_worker_that_fails_ends_the_loop_with_its_error():
    def fails(start, stop):
        if start >= 50:
            raise ValueError("of no use")
        return answer(start, stop)

    with pytest.raises(ValueError, match="of no use"):
        run(workers=3, batch=10, of=fails)


def test_more_samples_than_written_down_may_be_asked_for(tmp_path):
    checkpoint = Checkpoint(tmp_path / "loop.npz", "job")
    list(sweep(answer, Scores(50, 2, checkpoint=checkpoint), Schedule(50, 10)))
    longer = Scores(80, 2, checkpoint=checkpoint)
    list(sweep(answer, longer, Schedule(80, 10)))
    assert_array_equal(longer.scores, answer(0, 80))


def test_of_sums_no_fewer_samples_than_written_down_may_be_asked_for(tmp_path):
    checkpoint = Checkpoint(tmp_path / "loop.npz", "job")
    list(sweep(lambda i, j: [of_index(i, j)], Moments(50, checkpoint=checkpoint), Schedule(50, 10)))
    with pytest.raises(OutputError, match="sums of 50 samples, from which 20 cannot be had: ask for 50"):
        Moments(20, checkpoint=checkpoint)


@pytest.fixture
def interruptible():
    """Have Ctrl-C interrupt: what runs in the background of a shell was told to ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interruption_waits_until_a_sum_is_whole(tmp_path):
    class Interrupted(np.ndarray):
        """An array that has the user interrupt while it is added up."""

        def __array_ufunc__(self, ufunc, method, *inputs, **kw):
            os.kill(os.getpid(), signal.SIGINT)
            plain = [np.asarray(i) for i in inputs]
            return getattr(ufunc, method)(*plain, **kw)

    moments = Moments(4, checkpoint=Checkpoint(tmp_path / "loop.npz", "job"))
    with pytest.raises(KeyboardInterrupt):
        list(sweep(lambda i, j: [of_index(i, j).view(Interrupted)], moments, Schedule(4, 2)))
    assert_array_equal(moments.of(0).mean() * moments.done, of_index(0, moments.done).astype(np.float64).sum(axis=0))
    assert moments.done == 2


def test_errors_of_means_and_variances_are_how_much_these_scatter(rng):
    drawn = rng.gamma(2.0, size=(600, 100, 3))
    found = []
    for arrays in drawn:
        moments = Moments(100, powers=(1, 2, 3, 4))
        moments.put(0, [arrays])
        found.append(moments.of(0))
    for value, error in (
        (lambda m: m.mean(1), lambda m: m.error(1)),
        (lambda m: m.mean(2), lambda m: m.error(2)),
        (lambda m: m.variance, lambda m: m.variance_error),
    ):
        scatter = np.std([value(m) for m in found], axis=0)
        said = np.sqrt(np.mean([error(m) ** 2 for m in found], axis=0))
        assert_allclose(said, scatter, rtol=0.15)


def test_another_jobs_checkpoint_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "loop.npz"
    list(sweep(answer, Scores(20, 2, checkpoint=Checkpoint(path, "job")), Schedule(20, 10)))
    before = path.read_bytes()
    with pytest.raises(OutputError, match=r"loop\.npz belongs to another explanation"):
        Scores(20, 2, checkpoint=Checkpoint(path, "other"))
    assert path.read_bytes() == before


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path):
    path = tmp_path / "photo.npz"
    path.write_bytes(b"no archive")
    with pytest.raises(OutputError, match=r"photo\.npz is no checkpoint"):
        Scores(20, 2, checkpoint=Checkpoint(path, "job"))


@pytest.mark.parametrize("damage", ["cut", "flipped", "a lone array", "a zip of something else"])
def test_a_damaged_checkpoint_is_refused(tmp_path, damage):
    path = tmp_path / "loop.npz"
    list(sweep(answer, Scores(20, 2, checkpoint=Checkpoint(path, "job")), Schedule(20, 10)))
    whole = path.read_bytes()
    if damage == "a lone array":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    else:
        turned = whole[:-300] + bytes([whole[-300] ^ 255]) + whole[-299:]
        path.write_bytes({"cut": whole[:-100], "flipped": turned}.get(damage, b"PK\x03\x04" + bytes(100)))
    with pytest.raises(OutputError, match=r"loop\.npz is no checkpoint of onnxsal, or damaged"):
        Scores(20, 2, checkpoint=Checkpoint(path, "job"))


# ----- Memory -----


def only(most: int, asked: list[int]):
    """Return what answers up to so many samples at a time, and notes how many it was asked for."""

    def limited(start: int, stop: int) -> np.ndarray:
        asked.append(stop - start)
        if stop - start > most:
            raise OutOfMemory("too little memory")
        return answer(start, stop)

    return limited


@pytest.mark.parametrize("workers", [1, 3])
def test_a_batch_that_finds_no_memory_is_halved_and_the_loop_goes_on(workers):
    asked = []
    tally, _ = run(batch=50, workers=workers, of=only(7, asked))
    assert_array_equal(tally.scores, answer(0, 200))
    if workers == 1:  # 50, 25 and 12 do not fit, 6 does, and is not exceeded again
        assert asked[:4] == [50, 25, 12, 6]
        assert max(asked[4:]) == 6


def test_too_little_memory_for_one_sample_is_told():
    with pytest.raises(OutOfMemory, match="too little memory"):
        run(batch=8, of=only(0, []))


def test_nobody_looks_where_nobody_asks():
    looked = []
    tally = Scores(300, 2, error=lambda scores: looked.append(len(scores)) or 0.0)
    states = list(sweep(answer, tally, Schedule(300, 10, looks=False)))
    assert [s.done for s in states] == [300]
    assert looked == []
