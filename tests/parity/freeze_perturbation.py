"""Freeze what other libraries say by their methods of many runs, given onnxsal's own noise and masks.

Run by hand where they are installed (`pip install captum saliency torchray vision-explanation-methods`); the ordinary
tests read what it writes and need none of them. RISE's authors publish no package: their `explanations.py`
(github.com/eclique/RISE, commit d91ea00) is named on the command line.

    python tests/parity/freeze_perturbation.py explanations.py

Last run with captum 0.9.0, saliency 0.2.1 (PAIR), torchray 1.0.0.2, vision-explanation-methods 0.1.1, scikit-image
0.26.0, torch 2.14.1. White-box methods are computed in float64, the others in float32, and all kept in float32.

The libraries run as they are; only the functions that they draw random numbers with are replaced while they run, by
onnxsal's numbers. Where they differ from onnxsal or from each other, and what was taken:

- captum's NoiseTunnel counts its deviation in units of the input. `stdevs` is told 15 % of the image's range for the
  paper's SmoothGrad; `like="captum"` takes the unit. Saliency takes magnitudes by default, before they are averaged.
- captum's `riemann_trapezoid` has shares that sum to (n - 1) / n. onnxsal's `trapezoid` sums to 1: theirs is frozen
  times n / (n - 1).
- PAIR's points lie from 0 to 1 with both ends, and all count 1 / n: `riemann-inclusive`. Its SmoothGrad squares unless
  `magnitude=False`. Its Occlusion adds up falls without dividing by the number of windows. Its Grad-CAM is compared
  before it is enlarged.
- A pixel's colours are one feature of onnxsal's Occlusion: captum is given windows of all channels.
- TorchRay's RISE takes the sigmoid of what the model gives, lets cells end at whole pixels, and does not divide by the
  probability that a cell stays. Its guided backpropagation lets the gradient pass where a rectifier's input is exactly
  0: nowhere on these networks.
- RISE's authors append a softmax to the model; onnxsal takes the class's probability.
- vision-explanation-methods masks what the model is given, so that black is seen; of photos that the model's input
  shows letterboxed, onnxsal masks the photo only. Its map is scaled to 0..1. Neither what its model wrappers do
  (suppression and a threshold of their own) nor its skipping of failed runs is reproduced.
"""

import sys
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "converters")]

from parity import methods_cases, perturbation_cases  # noqa: E402  found through the line above
from parity.freeze_methods import build  # noqa: E402
from parity.methods_cases import Floats  # noqa: E402
from parity.methods_nets import NETS  # noqa: E402
from parity.perturbation_peers import View, black_box, white_box  # noqa: E402


def main(eclique: Path) -> None:
    """Freeze all networks."""
    perturbation_cases.FOLDER.mkdir(exist_ok=True)
    torch.set_num_threads(1)
    for name in perturbation_cases.NETS:
        x, _ = methods_cases.load(name)
        found = [*white_box(view(name, x, torch.float64)), *black_box(view(name, x, torch.float32), eclique)]
        maps = [(case, np.asarray(torch.as_tensor(array).detach(), np.float32)) for case, array in found]
        written = methods_cases.save(name, x, maps, perturbation_cases.FOLDER)
        sys.stdout.write(f"{written.name}: {len(maps)} maps, {written.stat().st_size} bytes\n")


def view(name: str, x: Floats, dtype: torch.dtype) -> View:
    """Return a network of `methods_nets`, and its input, in that type."""
    net = NETS[name]
    module = build(name, net).to(dtype)
    return View(module, net.layers["last"], torch.from_numpy(x).to(dtype), net.target, softmax=net.softmax)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
