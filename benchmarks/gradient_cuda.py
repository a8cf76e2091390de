"""Time input gradients and Grad-CAM on CUDA against the forward pass and PyTorch's eager autograd.

    python benchmarks/gradient_cuda.py [--models ResNet-50 ...] [--batch 1 8] [--runtime gpu] [--write]

Needs a GPU, torch built for it, torchvision, onnxscript, and onnxruntime-gpu. Images lie on the GPU before the clock
starts, for all alike; all take turns, one run each, and the tables have medians. TF32 is off everywhere.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import contenders
import networks
import numpy as np
import onnxruntime as ort
import torch

HERE = Path(__file__).parent
TURNS = 30
COLUMNS = (
    "network",
    "batch",
    "forward, ms",
    "gradient, ms",
    "/ forward",
    "PyTorch forward",
    "PyTorch gradient",
    "PyTorch / onnxsal",
    "Grad-CAM, ms",
    "/ forward",
    "left to the CPU",
    "median difference from PyTorch, of the largest entry",
)
CUDA = ("CUDAExecutionProvider", {"use_tf32": 0})


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=networks.NETWORKS, default=list(networks.NETWORKS))
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--runtime", choices=["gpu", "native"], default="gpu", help="What explainers are written for.")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "onnxsal-benchmarks")
    parser.add_argument("--write", action="store_true", help="Write the table to gradient_cuda.md.")
    options = parser.parse_args()
    ort.preload_dlls()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    lines = [
        "# Input gradients on CUDA",
        "",
        f"`python benchmarks/{' '.join([Path(sys.argv[0]).name, *sys.argv[1:]])}`, {time.strftime('%Y-%m-%d')}",
        "",
        f"{torch.cuda.get_device_name()}; torch {torch.__version__}, onnxruntime {ort.__version__}.",
        "",
        f"| {' | '.join(COLUMNS)} |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    for network in options.models:
        for row in rows(network, options):
            lines.append(row)
            print(row, flush=True)
    if options.write:
        (HERE / "gradient_cuda.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def rows(network: str, options: argparse.Namespace) -> list[str]:
    """Return the table's rows of one network."""
    graphs = contenders.graphs(network, options.cache, options.runtime)
    sessions = {row: ort.InferenceSession(str(path), quiet(), providers=[CUDA]) for row, path in graphs.items()}
    left = left_to_cpu(graphs["gradient"])
    module = networks.make_torch(network).requires_grad_(False).cuda()
    found = []
    for batch in options.batch:
        x = networks.images(batch).cuda()
        field = {row: bound(session, x) for row, session in sessions.items()}
        field["torch forward"] = lambda x=x: contenders.scores(module, x)
        field["torch gradient"] = lambda x=x: contenders.input_gradient(module, x)
        times = {name: [] for name in field}
        for turn in range(TURNS + 3):
            for name, run in field.items():
                seconds = timed(run)
                if turn >= 3:  # the first runs choose algorithms
                    times[name].append(1e3 * seconds)
        ms = {name: statistics.median(values) for name, values in times.items()}
        want = contenders.input_gradient(module, x).cpu().numpy()
        feeds = {"image": x.cpu().numpy(), "target": np.full(batch, contenders.TARGET, np.int64)}
        got = sessions["gradient"].run(["attribution"], feeds)[0]
        # The largest would be that of ReLUs within rounding of their kink, of which random networks have some.
        off = float(np.median(np.abs(got - want)) / max(np.abs(want).max(), 1e-30))
        cells = [network, batch, ms["forward"], ms["gradient"], ms["gradient"] / ms["forward"], ms["torch forward"]]
        cells += [ms["torch gradient"], ms["torch gradient"] / ms["gradient"], ms["grad-cam"]]
        cells += [ms["grad-cam"] / ms["forward"], left, off]
        found.append(f"| {' | '.join(f'{c:.3g}' if isinstance(c, float) else str(c) for c in cells)} |")
    return found


def bound(session: ort.InferenceSession, x: torch.Tensor):
    """Return what runs a session on images that lie on the GPU, its outputs left there."""
    binding = session.io_binding()
    for value in session.get_inputs():
        if value.name == "target":
            binding.bind_cpu_input(value.name, np.full(len(x), contenders.TARGET, np.int64))
        else:
            binding.bind_input(value.name, "cuda", 0, np.float32, tuple(x.shape), x.data_ptr())
    for value in session.get_outputs():
        binding.bind_output(value.name, "cuda")
    return lambda: session.run_with_iobinding(binding)


def timed(run) -> float:
    """Return the seconds of one run, the GPU's work included."""
    torch.cuda.synchronize()
    begin = time.perf_counter()
    run()
    torch.cuda.synchronize()
    return time.perf_counter() - begin


def quiet() -> ort.SessionOptions:
    """Return options that print errors only."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return options


def left_to_cpu(path: Path) -> str:
    """Return which operators ONNX Runtime places on the CPU although CUDA is asked for, shapes' arithmetic included."""
    import json

    options = quiet()
    options.enable_profiling = True
    options.profile_file_prefix = str(Path(tempfile.mkdtemp()) / "profile")
    session = ort.InferenceSession(str(path), options, providers=[CUDA])
    feeds = {"image": networks.images(1).numpy(), "target": np.array([contenders.TARGET])}
    session.run(None, feeds)
    events = json.loads(Path(session.end_profiling()).read_text())
    ran = [e["args"] for e in events if e.get("cat") == "Node" and "provider" in e.get("args", {})]
    counts = Counter(a["op_name"] for a in ran if a["provider"] == "CPUExecutionProvider")
    return ", ".join(f"{name} {count}" for name, count in counts.most_common()) or "none"


if __name__ == "__main__":
    main()
