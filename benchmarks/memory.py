"""How much memory a contender takes, each in a process of its own."""

import resource
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import contenders
import networks
import torch

CASES = (("forward", "ONNX Runtime"), ("gradient", "onnxsal"), ("grad-cam", "onnxsal"), ("gradient", "PyTorch"))


def added_by(row: str, tool: str, network: str, folder: Path, batch: int, threads: int) -> float:
    """Return the MB that one contender adds to a process at its peak, session or module included.

    The graph that it runs has been written before.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_added_here, row, tool, network, folder, batch, threads).result()


def _added_here(row: str, tool: str, network: str, folder: Path, batch: int, threads: int) -> float:
    torch.set_num_threads(threads)
    before = _peak()
    contender = _set_up(row, tool, network, folder, batch, threads)
    for _ in range(2):
        contender.run()
    return _peak() - before


def _set_up(row: str, tool: str, network: str, folder: Path, batch: int, threads: int) -> contenders.Contender:
    if tool == "PyTorch":
        made = contenders.pytorch(network, folder, networks.images(batch))
        return next(c for c in made if c.row == row)
    session, _ = contenders.open_session(contenders.graph_path(network, folder, row), threads)
    return contenders.ours(row, session, batch)


def _peak() -> float:
    """Return the most memory that this process has held, in MB."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss counts in what the process was before it became this program
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
