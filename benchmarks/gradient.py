"""Time input gradients and Grad-CAM against the forward pass and against PyTorch's tools.

    python benchmarks/gradient.py                             # all four networks, batches of 1 and 8: a quarter hour
    python benchmarks/gradient.py --quick --models ResNet-50  # a first impression
    python benchmarks/gradient.py --write                     # and keep the tables beside this file
    python benchmarks/gradient.py --small-pages               # without large pages of memory, for any tool

Needs torch, torchvision and onnxscript; captum, grad-cam and onnx2torch where they are to be compared with.
Networks have random weights and are exported once, into the folder that --cache names. All tools take turns, one
run each, with the same number of threads; the tables have medians, and medians of ratios within a turn.
"""

import argparse
import ctypes
import math
import os
import platform
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path

import contenders
import memory
import networks
import torch
from contenders import Contender

HERE = Path(__file__).parent
LEAST_TURNS, MOST_TURNS = 5, 60
SHORT = 0.5
"""Seconds. Shorter runs are repeated, and the last repetition timed: the runs before were another tool's."""
REST = 0.1
"""Seconds before a tool's turn: the threads of the one before wait for more work first, and take a core each."""
SET_THP_DISABLE = 41  # prctl(2)
VERSIONS = ("onnxsal", "onnxruntime", "torch", "torchvision", "captum", "grad-cam", "onnx2torch", "numpy")

Times = dict[tuple[str, str], list[float]]


def main() -> None:
    """Run what the command line asks for."""
    options = read_options()
    warnings.simplefilter("ignore")
    os.environ["ONNXSAL_CACHE"] = ""
    torch.set_num_threads(options.threads)
    if options.small_pages:
        forbid_large_pages()
    show(report(options), HERE / "gradient.md" if options.write else None)


def forbid_large_pages() -> None:
    """Have Linux give this process no pages of 2 MB, whoever asks: not onnxsal for its sessions, nor numpy."""
    if ctypes.CDLL(None).prctl(SET_THP_DISABLE, 1, 0, 0, 0):
        raise SystemExit("--small-pages is for Linux")


def show(report: Iterable[str], file: Path | None) -> None:
    """Print a report as it comes to be, and keep it in a file if one is named."""
    lines = []
    for line in report:
        print(line, flush=True)
        lines.append(line)
    if file is not None:
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=networks.NETWORKS, default=list(networks.NETWORKS))
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=40, help="Time for each model and batch.")
    parser.add_argument("--quick", action="store_true", help="Ten seconds each; memory is not measured.")
    parser.add_argument("--small-pages", action="store_true", help="Forbid large pages of memory.")
    parser.add_argument("--write", action="store_true", help="Write the tables to gradient.md.")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "onnxsal-benchmarks")
    options = parser.parse_args()
    options.seconds = min(options.seconds, 10) if options.quick else options.seconds
    return options


def report(options: argparse.Namespace) -> Iterator[str]:
    """Yield the report, line by line, as it comes to be."""
    yield from heading(options)
    yield from [
        "",
        "| network | batch | row | ONNX Runtime forward, ms | onnxsal, ms | / forward | peer | ms | peer / onnxsal |",
    ]
    yield "|---|---|---|---|---|---|---|---|---|"
    notes: list[str] = []
    against_torch: dict[int, list[float]] = {}
    for network in options.models:
        for batch in options.batch:
            times, absent = time_all(network, open_sessions(network, options), batch, options)
            notes += [line for line in absent if line not in notes]
            yield from table_rows(network, batch, times)
            if ("gradient", "PyTorch") in times:
                gain = ratio(times, ("gradient", "PyTorch"), ("gradient", "onnxsal"))
                against_torch.setdefault(batch, []).append(gain)
    yield ""
    for batch, gains in against_torch.items():
        mean = math.exp(statistics.mean(map(math.log, gains)))
        yield f"Input gradient, PyTorch / onnxsal, batch {batch}: geometric mean {mean:.2f}, least {min(gains):.2f}."
    yield from notes
    yield from ["", *preparation(options)]


def heading(options: argparse.Namespace) -> Iterator[str]:
    """Yield what was measured, and on what."""
    yield "# Speed of input gradients"
    yield ""
    yield f"`python benchmarks/{' '.join([Path(sys.argv[0]).name, *sys.argv[1:]])}`, {time.strftime('%Y-%m-%d')}"
    yield ""
    yield (
        f"{processor()}, {os.cpu_count()} cores, {options.threads} threads; Python {platform.python_version()}, "
        f"{', '.join(f'{name} {found}' for name in VERSIONS if (found := installed(name)))}. Random weights, "
        f"{networks.SIZE} x {networks.SIZE}, exported with dynamo at opset {networks.OPSET}. One run each in turn; "
        f"medians, and medians of the ratios within a turn."
    )


def processor() -> str:
    """Return the name of the processor."""
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return names[0].split(": ")[1] if names else platform.processor() or platform.machine()


def installed(name: str) -> str | None:
    """Return the version of a distribution, if it is installed."""
    try:
        return version(name)
    except ModuleNotFoundError:
        return None


# ----- Time -----


def open_sessions(network: str, options: argparse.Namespace) -> dict[str, contenders.Session]:
    """Open the session of each row."""
    graphs = contenders.graphs(network, options.cache)
    return {row: contenders.open_session(path, options.threads)[0] for row, path in graphs.items()}


def time_all(
    network: str, sessions: dict[str, contenders.Session], batch: int, options: argparse.Namespace
) -> tuple[Times, list[str]]:
    """Return the seconds of every run, by row and tool, and what could not be run."""
    for session in sessions.values():
        contenders.settle(session, batch)
    found, absent = contenders.peers(network, options.cache, batch)
    field = [contenders.ours(row, session, batch) for row, session in sessions.items()] + found
    times: Times = {(c.row, c.tool): [] for c in field}
    end = time.perf_counter() + options.seconds
    least = 3 if options.quick else LEAST_TURNS
    for turn in range(MOST_TURNS):
        if turn >= least and time.perf_counter() > end:
            break
        for contender in field:
            times[contender.row, contender.tool].append(seconds(contender))
    return times, absent


def seconds(contender: Contender) -> float:
    """Time one run."""
    time.sleep(REST)
    for _ in range(4):
        begin = time.perf_counter()
        contender.run()
        taken = time.perf_counter() - begin
        if taken > SHORT:
            break
    return taken


def ratio(times: Times, over: tuple[str, str], under: tuple[str, str]) -> float:
    """Return the median of the ratios, turn by turn."""
    return statistics.median(a / b for a, b in zip(times[over], times[under], strict=True))


def table_rows(network: str, batch: int, times: Times) -> Iterator[str]:
    """Yield the rows of one network and batch, a row for each peer."""
    forward = ("forward", "ONNX Runtime")
    for row in contenders.ROWS:
        own = forward if row == "forward" else (row, "onnxsal")
        cells = [network, str(batch), row, milliseconds(times[forward])]
        cells += ["", ""] if own == forward else [milliseconds(times[own]), f"{ratio(times, own, forward):.2f}"]
        for key in [key for key in times if key[0] == row and key != own]:
            yield row_of(*cells, key[1], milliseconds(times[key]), f"{ratio(times, key, own):.2f}")
        if all(key[0] != row or key == own for key in times):
            yield row_of(*cells, "", "", "")


def milliseconds(times: list[float]) -> str:
    """Return the median in milliseconds, in three figures."""
    return f"{statistics.median(times) * 1e3:.3g}"


def row_of(*cells: str) -> str:
    """Return a row of a Markdown table."""
    return f"| {' | '.join(cells)} |"


# ----- What comes before, and memory -----


def preparation(options: argparse.Namespace) -> Iterator[str]:
    """Yield the table of what it takes to get ready, and of memory."""
    cases = [] if options.quick else memory.CASES
    batch = max(options.batch)
    yield f"Seconds to get ready, and MB of memory added to the process at its peak, batch {batch}, sessions included:"
    yield ""
    yield row_of(
        "network", "gradient graph", *(f"session {r}" for r in contenders.ROWS), *(f"MB {r}, {t}" for r, t in cases)
    )
    yield "|" + "---|" * (2 + len(contenders.ROWS) + len(cases))
    for network in options.models:
        graph = contenders.seconds_to_differentiate(network, options.cache)
        paths = [contenders.graph_path(network, options.cache, row) for row in contenders.ROWS]
        opened = [contenders.open_session(path, options.threads)[1] for path in paths]
        held = [memory.added_by(*case, network, options.cache, batch, options.threads) for case in cases]
        yield row_of(network, *(f"{s:.2f}" for s in [graph, *opened]), *(f"{m:.0f}" for m in held))


if __name__ == "__main__":
    main()
