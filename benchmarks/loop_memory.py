"""How much memory RISE holds at its peak, by the number of masks: a process for each, without a training framework.

python benchmarks/loop_memory.py 4000
"""

import subprocess
import sys
from pathlib import Path

COUNTS = (500, 4000, 20000)
DEMO = Path(__file__).parents[1] / "models" / "digits"


def peaks() -> dict[str, float]:
    """Return the MB at the peak, by number of masks; the graph, compiled by a process before, is in the cache."""
    peak_of(1)
    return {str(count): peak_of(count) for count in COUNTS}


def peak_of(count: int) -> float:
    """Return the MB that a fresh process holds at its peak."""
    command = [sys.executable, __file__, str(count)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def peak_here(count: int) -> float:
    """Explain the demo's model by so many masks; return the MB that this process held at its peak."""
    import onnxsal

    model = onnxsal.load(DEMO / "digits.onnx")
    model.explain(DEMO / "scenes" / "scene-0.png", "rise", samples=count)
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    print(peak_here(int(sys.argv[1])))
