"""Time RISE, D-RISE and SmoothGrad against other tools, plain loops, and forward passes alone.

    python benchmarks/perturbation.py                           # all cases: a quarter hour
    python benchmarks/perturbation.py --case "rise MobileNetV2" # one of them
    python benchmarks/perturbation.py --case memory             # the peak, by number of samples
    python benchmarks/perturbation.py --write                   # and keep the tables beside this file

Needs torch, torchvision and onnxscript; dianna, vision-explanation-methods, captum and onnx2torch where they are to be
compared with; and the folder of shared models that ONNXSAL_ZOO names for all but torchvision's networks, which have
random weights. Each tool makes maps for some seconds first; then all tools of a case take turns, one map each, on as
many cores; tables have medians, and medians of ratios within a turn. What was measured is kept in the folder that
--cache names: cases may be run one by one.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import loop_memory
import torch
from contenders import Contender
from gradient import Times, installed, processor, ratio, row_of, seconds
from samplers import CASES, FORWARD, Setting

HERE = Path(__file__).parent
MEMORY = "memory"
VERSIONS = (
    "onnxsal",
    "onnxruntime",
    "numpy",
    "torch",
    "torchvision",
    "dianna",
    "vision-explanation-methods",
    "captum",
    "onnx2torch",
)


def main() -> None:
    """Run what the command line asks for."""
    options = read_options()
    warnings.simplefilter("ignore")
    options.cache.mkdir(parents=True, exist_ok=True)
    os.environ["ONNXSAL_CACHE"] = str(options.cache / "compiled")
    kept = options.cache / "perturbation.json"
    found: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    for case in options.case:
        made = loop_memory.peaks() if case == MEMORY else timed(case, options)
        found[case] = joined(found[case], made) if options.append and case in found and case != MEMORY else made
        print("\n".join(memory_rows(found[case]) if case == MEMORY else case_rows(case, found[case])), flush=True)
        kept.write_text(json.dumps(found))
    if options.write:
        (HERE / "perturbation.md").write_text("\n".join(report(found)) + "\n", encoding="utf-8")


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", nargs="+", choices=[*CASES, MEMORY], default=[*CASES, MEMORY])
    parser.add_argument("--samples", type=int, help="In place of each case's own number.")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--warm-up", type=float, default=10, help="Seconds that each tool runs before.")
    parser.add_argument("--append", action="store_true", help="Add to the turns that were taken before.")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 5, 10, 25], help="That captum may take.")
    parser.add_argument("--without", nargs="+", default=[], help="Tools to leave out, by the beginning of their name.")
    parser.add_argument("--zoo", type=Path, default=os.environ.get("ONNXSAL_ZOO"))
    parser.add_argument("--write", action="store_true", help="Write the tables to perturbation.md.")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "onnxsal-benchmarks")
    return parser.parse_args()


# ----- Time -----


def timed(case: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return the seconds of every map, by tool, and how many samples it took."""
    make, samples = CASES[case]
    setting = Setting(options.cache, options.zoo or Path(), options.samples or samples, tuple(options.batches))
    field = [c for c in make(setting) if not c.tool.startswith(tuple(options.without) or ("\0",))]
    for contender in field:
        warm_up(contender, options.warm_up)
    times: Times = {("", contender.tool): [] for contender in field}
    for _ in range(options.turns):
        for contender in field:
            times["", contender.tool].append(seconds(contender))
    return {"samples": setting.samples, "times": {tool: found for (_, tool), found in times.items()}}


def warm_up(contender: Contender, seconds: float) -> None:
    """Have a tool make maps: PyTorch then has its memory, and onnxsal large pages, which it asks for once that pays."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        contender.run()


def joined(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Return the turns of two calls together, of the tools and samples that both have."""
    assert before["samples"] == after["samples"], "turns of other numbers of samples were kept: leave out --append"
    both = [tool for tool in before["times"] if tool in after["times"]]
    return after | {"times": {tool: before["times"][tool] + after["times"][tool] for tool in both}}


def case_rows(case: str, found: dict[str, Any]) -> Iterator[str]:
    """Yield the rows of one case, a row for each tool."""
    times: Times = {("", tool): taken for tool, taken in found["times"].items()}
    for key, taken in times.items():
        each = statistics.median(taken) / found["samples"] * 1e3
        forward, ours = (f"{ratio(times, *pair):.2f}" for pair in ((key, ("", FORWARD)), (key, ("", "onnxsal"))))
        yield row_of(
            case, str(found["samples"]), key[1], f"{statistics.median(taken):.2f}", f"{each:.3g}", forward, ours
        )


# ----- Memory -----


def memory_rows(found: dict[str, float]) -> Iterator[str]:
    """Yield the table of memory."""
    yield row_of("masks", *found)
    yield "|" + "---|" * (1 + len(found))
    yield row_of("MB at the peak", *(f"{mb:.0f}" for mb in found.values()))


# ----- The report -----


def report(found: dict[str, Any]) -> Iterator[str]:
    """Yield the report."""
    yield "# Speed of methods of many runs"
    yield ""
    yield f"`python benchmarks/perturbation.py --write`, case by case, {time.strftime('%Y-%m-%d')}"
    yield ""
    yield (
        f"{processor()}, {os.cpu_count()} cores; Python {platform.python_version()}, "
        f"{', '.join(f'{name} {number}' for name in VERSIONS if (number := installed(name)))}. Each tool runs "
        f"for ten seconds first, then one map each in turn; medians, and medians of the ratios within a turn. Forward "
        f"passes are the same model's on ONNX Runtime, in batches of eight on all cores, of images that are ready; "
        f"captum's batches are those of 1, 5, 10, 25 that are fastest here."
    )
    yield ""
    yield row_of("case", "samples", "tool", "s", "ms a sample", "/ forward", "/ onnxsal")
    yield "|---|---|---|---|---|---|---|"
    for case in CASES:
        yield from case_rows(case, found[case]) if case in found else ()
    if MEMORY in found:
        yield from ["", "RISE on the demo's model, 96 x 96, grids of 7 x 7, each in a process of its own:", ""]
        yield from memory_rows(found[MEMORY])


if __name__ == "__main__":
    torch.set_num_threads(os.cpu_count() or 1)
    main()
