"""Show where the time of a gradient goes: ONNX Runtime's profile of its kernels, by what they are there for.

    python benchmarks/kernels.py [--models ResNet-50 ...] [--batch 1 8] [--write]

Needs torch, torchvision and onnxscript. Medians of each kernel over all runs, without what passes between kernels.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import contenders
import networks
import numpy as np
import onnx
import onnxruntime as ort
from gradient import REST, processor, row_of, show

HERE = Path(__file__).parent
PURPOSES = {
    "products": {"Conv", "ConvTranspose", "Gemm", "MatMul"},
    "activations": {"Relu", "Clip", "Gelu", "Softmax", "LayerNormalization"},
    "poolings": {"MaxPool", "AveragePool", "GlobalAveragePool", "ReduceMean"},
}
"""The adjoints of these operators."""
MOVES = {"ReorderInput", "ReorderOutput", "Transpose", "Reshape", "Concat", "Pad", "DepthToSpace", "Slice", "Split"}
PARTS = ("forward", "products", "activations", "poolings", "moves", "other")
SCOPE = "grad_"
RUNS = 4
"""In a turn: the first finds the caches full of other things."""


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=networks.NETWORKS, default=list(networks.NETWORKS))
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=10, help="Time for each model and batch.")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "onnxsal-benchmarks")
    parser.add_argument("--write", action="store_true", help="Write the table to kernels.md.")
    options = parser.parse_args()
    show(report(options), HERE / "kernels.md" if options.write else None)


def report(options: argparse.Namespace) -> Iterator[str]:
    """Yield the report, line by line."""
    yield "# Where the time of a gradient goes"
    yield ""
    yield (
        f"`python benchmarks/kernels.py`, {time.strftime('%Y-%m-%d')}; {processor()}, {options.threads} threads, "
        f"onnxruntime {ort.__version__}. Milliseconds; the floor is two forward passes, the same multiplications once "
        "more. Beside the forward pass in the gradient's own graph: the adjoints of convolutions and matrix products, "
        "those of activations (masks) and normalisations, those of poolings, what only moves entries (reorders, "
        "transposes, phases put together), and the rest."
    )
    yield ""
    yield row_of("network", "batch", "forward alone", *(f"gradient: {part}" for part in PARTS), "sum", "/ forward")
    yield "|" + "---|" * (len(PARTS) + 5)
    for network in options.models:
        graphs = contenders.graphs(network, options.cache)
        for batch in options.batch:
            forward, parts = spent([graphs["forward"], graphs["gradient"]], batch, options)
            alone, total = sum(forward.values()), sum(parts.values())
            cells = [alone, *(parts[part] for part in PARTS), total]
            yield row_of(network, str(batch), *(f"{ms:.3g}" for ms in cells), f"{total / alone:.2f}")


def spent(paths: list[Path], batch: int, options: argparse.Namespace) -> list[Counter[str]]:
    """Return the milliseconds that a run of each graph spends, by what for; they take turns."""
    sessions = [profiled(path, options) for path in paths]
    feeds: dict[str, Any] = {"image": networks.images(batch).numpy(), "target": np.full(batch, contenders.TARGET)}
    end = time.perf_counter() + options.seconds
    while time.perf_counter() < end:
        for session in sessions:
            time.sleep(REST)  # until the other session's threads no longer wait for work
            for _ in range(RUNS):
                session.run(None, {i.name: feeds[i.name] for i in session.get_inputs()})
    return [by_purpose(path, kernels(session)) for path, session in zip(paths, sessions, strict=True)]


def by_purpose(path: Path, kernels: dict[tuple[str, str], float]) -> Counter[str]:
    """Return the milliseconds of a graph's kernels, by what they are there for."""
    operators = {node.name: node.op_type for node in onnx.load(path, load_external_data=False).graph.node}
    taken: Counter[str] = Counter()
    for (name, op_type), ms in kernels.items():
        taken[purpose(name, op_type, operators)] += ms
    return taken


def purpose(name: str, op_type: str, operators: dict[str, str]) -> str:
    """Return what a kernel is there for, by its name: adjoints are named after the node they belong to."""
    scope, inner, _ = name.partition("/")
    if op_type in MOVES:
        return "moves"
    if not scope.startswith(SCOPE):
        return "other" if inner else "forward"
    of = operators.get(scope.removeprefix(SCOPE), "")
    return next((what for what, types in PURPOSES.items() if of in types), "other")


def profiled(path: Path, options: argparse.Namespace) -> ort.InferenceSession:
    """Open a session that writes its profile."""
    settings = ort.SessionOptions()
    settings.intra_op_num_threads, settings.enable_mem_pattern = options.threads, False
    settings.enable_profiling, settings.profile_file_prefix = True, str(Path(tempfile.mkdtemp()) / "profile")
    return ort.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])


def kernels(session: ort.InferenceSession) -> dict[tuple[str, str], float]:
    """End a session's profile; return the median milliseconds of each kernel, by its node's name and its operator."""
    taken: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in json.loads(Path(session.end_profiling()).read_text()):
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            key = event["name"].removesuffix("_kernel_time"), event["args"]["op_name"]
            taken[key].append(event["dur"] / 1e3)
    return {key: statistics.median(times) for key, times in taken.items()}


if __name__ == "__main__":
    main()
