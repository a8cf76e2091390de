"""How long a gradient graph takes to build, to open, and how much memory that needs.

    python benchmarks/building.py                    # ResNet-50, DenseNet-121, Swin-T, SwinV2-T, both exporters
    python benchmarks/building.py model.onnx ...     # these files
    python benchmarks/building.py --write            # and keep the table beside this file

The networks are torchvision's, with random weights, exported in a process of their own. Every row is a fresh
process without a training framework. Times are CPU seconds, without imports and without reading the file, so that
what else the machine does counts little: of `vjp` (canonical form, differentiation, pruning) with respect to the
first input, and of opening an ONNX Runtime session on one thread. Memory is the process's peak after either step,
less what imports take.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from datetime import date
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

NETWORKS = {"resnet50": 224, "densenet121": 224, "swin_t": 224, "swin_v2_t": 256}
EXPORTERS = ("torchscript", "dynamo")
VERSIONS = ("onnxsal", "onnx", "onnx-ir", "onnxruntime", "torch", "torchvision")
COLUMNS = ("model", "nodes", "with gradient", "build s", "peak MB", "session s", "peak MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--write", action="store_true", help="Keep the table beside this file.")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--export", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure)))
    elif args.export:
        export(*args.export)
    else:
        with tempfile.TemporaryDirectory() as folder:
            table = report(args.models or export_all(Path(folder)))
        print(table)
        if args.write:
            Path(__file__).with_suffix(".md").write_text(f"{machine()}\n\n```\n{table}\n```\n", encoding="utf-8")


def report(models: list[Path]) -> str:
    """Return a table with a row per model, each measured in a process of its own."""
    rows = [COLUMNS, *(tuple(again("--measure", str(path))) for path in models)]
    widths = [max(len(str(row[i])) for row in rows) for i in range(len(COLUMNS))]
    return "\n".join(aligned([str(cell) for cell in row], widths) for row in rows)


def aligned(cells: list[str], widths: list[int]) -> str:
    first, *rest = cells
    return "  ".join([first.ljust(widths[0]), *(c.rjust(w) for c, w in zip(rest, widths[1:], strict=True))])


def machine() -> str:
    """Say what the table was measured on, and how."""
    versions = ", ".join(f"{name} {version(name)}" for name in VERSIONS if is_installed(name))
    return (
        f"What `python benchmarks/building.py` says on {os.cpu_count()} cores of {platform.machine()}, Python "
        f"{platform.python_version()}, {versions}; {date.today()}. Its docstring says what is measured."
    )


def is_installed(name: str) -> bool:
    return find_spec(name.replace("-", "_")) is not None


def again(*arguments: str) -> list[object]:
    """Run this file in a fresh process and return what it prints."""
    done = subprocess.run([sys.executable, __file__, *arguments], check=True, capture_output=True, text=True)
    found: list[object] = json.loads(done.stdout.splitlines()[-1])
    return found


# ----- One model -----


def measure(path: Path) -> list[object]:
    import onnx_ir as ir
    import onnxruntime as ort

    from onnxsal.autodiff import vjp

    # What is imported when it is first needed is no part of building.
    warm_up(vjp)
    bare, model = peak(), ir.load(path)
    # Of the files of old exporters the weights are inputs too.
    image = next(v for v in model.graph.inputs if not v.is_initializer())
    begin = time.process_time()
    gradient = vjp(model, of=str(model.graph.outputs[0].name), wrt=str(image.name))
    build, built = time.process_time() - begin, peak()
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "gradient.onnx"
        ir.save(gradient, saved, external_data="gradient.data")
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        begin = time.process_time()
        ort.InferenceSession(saved, options, providers=["CPUExecutionProvider"])
        session = time.process_time() - begin
    counts = [len(list(ir.traversal.RecursiveGraphIterator(m.graph))) for m in (model, gradient)]
    memory = [round((p - bare) / 1e6) for p in (built, peak())]
    return [path.stem, *counts, f"{build:.2f}", memory[0], f"{session:.2f}", memory[1]]


def warm_up(vjp) -> None:
    import onnx

    text = '<ir_version: 8, opset_import: ["" : 13]> g (float[n,4] x) => (float[] y) { s = Shape(x) y = ReduceMax(x) }'
    vjp(onnx.parser.parse_model(text), of="y", wrt="x")


def peak() -> int:
    """Return the process's largest resident size so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


# ----- The networks -----


def export_all(folder: Path) -> list[Path]:
    """Export the networks, in both ways that torch knows, and return the files; without torchvision, say so."""
    models = []
    for name in NETWORKS:
        for exporter in EXPORTERS:
            path = folder / f"{name}-{exporter}.onnx"
            done = subprocess.run(
                [sys.executable, __file__, "--export", name, exporter, str(path)], capture_output=True, text=True
            )
            if "No module named" in done.stderr:
                sys.exit("torchvision is needed to make the networks: install it, or name .onnx files")
            if done.returncode:
                print(
                    f"{name} cannot be exported by {exporter}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr
                )
            else:
                models.append(path)
    return models


def export(name: str, exporter: str, path: str) -> None:
    import torch
    import torchvision

    torch.manual_seed(0)
    model = getattr(torchvision.models, name)(weights=None).eval()
    image = torch.randn(1, 3, NETWORKS[name], NETWORKS[name])
    named: dict[str, object] = {"input_names": ["image"], "output_names": ["logits"]}
    if exporter == "torchscript":
        torch.onnx.export(model, (image,), path, dynamo=False, dynamic_axes={"image": {0: "batch"}}, **named)
        return
    try:
        torch.onnx.export(
            model, (image,), path, dynamo=True, dynamic_shapes=({0: "batch"},), external_data=False, **named
        )
    except Exception:  # torchvision's Swin asks for the batch in Python
        torch.onnx.export(model, (image,), path, dynamo=True, external_data=False, **named)


if __name__ == "__main__":
    main()
