"""How many samples a run takes: what is fastest, unless memory or the user says otherwise."""

import pytest

from onnxsal.graph.footprint import Footprint
from onnxsal.sampling.sizing import MOST, MOST_ON_GPU, Room, Size, choose_size

MB = 10**6
LIGHT = Footprint(8 * MB, 120 * MB, 4 * MB)  # much to compute with few weights
HEAVY = Footprint(20 * MB, 110 * MB, 550 * MB)
TINY = Footprint(MB // 10, MB // 2, MB // 10)
PLENTY = 64_000 * MB


@pytest.mark.parametrize(("need", "batch"), [(LIGHT, 1), (HEAVY, MOST), (TINY, MOST)])
def test_a_processor_runs_one_thread_per_core_and_reads_large_weights_for_several_samples(need, batch):
    assert choose_size(need, Room(4, PLENTY)) == Size(batch, 4, 1)


def test_a_gpu_takes_one_run_of_many_samples():
    assert choose_size(LIGHT, Room(4, PLENTY, gpu=True)) == Size(MOST_ON_GPU, 1, None, alike=True)
    assert choose_size(LIGHT, Room(4, 400 * MB, gpu=True)) == Size(12, 1, None, alike=True)


@pytest.mark.parametrize(
    ("samples", "size"), [(4000, 50), (1000, 50), (64, 64), (50, 50), (625, 25), (997, 64), (3, 3)]
)
def test_a_gpu_takes_runs_of_one_size_where_they_come_out_even(samples, size):
    assert choose_size(LIGHT, Room(4, PLENTY, gpu=True)).for_samples(samples) == size


def test_a_processor_leaves_no_worker_idle():
    assert choose_size(HEAVY, Room(4, PLENTY)).for_samples(1000) == MOST
    assert choose_size(HEAVY, Room(4, PLENTY)).for_samples(10) == 3


@pytest.mark.parametrize("workers", [None, 1, 3])
def test_all_runs_together_fit_into_half_of_the_free_memory(workers):
    for memory in (10 * MB, 100 * MB, 500 * MB, 2000 * MB):
        size = choose_size(HEAVY, Room(8, memory), workers=workers)
        together = size.batch_size * size.workers
        assert together * 2 * HEAVY.peak <= memory / 2 or together == (workers or 1)


def test_short_memory_takes_samples_from_a_run_before_runs():
    assert choose_size(HEAVY, Room(4, 500 * MB)) == Size(1, 4, 1)
    assert choose_size(HEAVY, Room(4, 200 * MB)) == Size(1, 2, 2)


def test_the_user_has_the_last_word():
    assert choose_size(HEAVY, Room(4, 100 * MB), batch_size=32, workers=2) == Size(32, 2, 2)
    assert choose_size(HEAVY, Room(4, PLENTY), batch_size=32).batch_size == 32
    assert choose_size(HEAVY, Room(4, PLENTY), workers=1) == Size(MOST, 1, 4)
    assert choose_size(HEAVY, Room(4, PLENTY), workers=16).threads == 1


def test_what_nothing_is_known_of_runs_too():
    assert choose_size(Footprint(0, 0, 0), Room(2, None)).batch_size > 1
    assert choose_size(LIGHT, Room(2, None)) == choose_size(LIGHT, Room(2, PLENTY))
