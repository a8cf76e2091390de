"""`onnxsal compile`: an explanation as one ONNX file."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from onnxsal.cli import options

if TYPE_CHECKING:
    import onnx_ir as ir

    from onnxsal.graph.runtimes import RuntimeName


@click.command("compile")
@options.model_argument()
@click.option("-m", "--method", default="grad-cam", show_default=True, help="See `onnxsal methods`.")
@click.option(
    "-o", "--output", metavar="OUT.onnx", type=click.Path(path_type=Path), required=True, help="File to write."
)
@options.target_option(
    "Form of the target: top (default), prob:top, 0-1 for a contrast, layer:NAME,channel=0[,at=ROW,COLUMN]. The class "
    "or channel itself is an input of the graph."
)
@options.layer_option()
@click.option(
    "--runtime",
    type=click.Choice(["native", "gpu", "web"]),
    default="native",
    show_default=True,
    help="What will run it: ONNX Runtime on a CPU, on anything else (CUDA, TensorRT, ...), or in a browser on WebGPU.",
)
@options.settings_option()
@options.like_option()
@options.card_option()
@options.overwrite_option()
def command(
    model: Path,
    method: str,
    output: Path,
    target: str | None,
    layer: str | None,
    runtime: "RuntimeName",
    settings: dict[str, str],
    like: str | None,
    card: Path | None,
    overwrite: bool,
) -> None:
    """Write the explanation of MODEL as one self-contained ONNX file, for any ONNX Runtime.

    It takes the model's own inputs and `target`, the class of each sample (-1: the top one; of a detector
    the place of a proposal, beside `target_class`), and gives the model's own outputs, `attribution` and
    `saliency_map`.
    """
    import onnxsal
    from onnxsal.cli.choice import choose
    from onnxsal.cli.outputs import check_file, check_folder, make_folder
    from onnxsal.errors import OutputError
    from onnxsal.explanation.explanation import write_file
    from onnxsal.explanation.portable import to_bytes

    (choice,) = choose([method], layer, settings, like)
    check_folder(output.parent)
    check_file(output, overwrite=overwrite)
    if output.exists() and model.exists() and output.samefile(model):
        raise OutputError(f"{output} is the model itself: choose another file (-o)")
    loaded = onnxsal.load(model, card=card)
    explainer = loaded.compile(choice.name, target=target, runtime=runtime, like=like, **choice.options)
    data = to_bytes(explainer, output.parent)
    make_folder(output.parent)
    write_file(output, data, overwrite=overwrite)
    _report(explainer, method, output, len(data))


def _report(explainer: "ir.Model", method: str, output: Path, size: int) -> None:
    from onnxsal.cli.tables import Table, aligned

    graph = explainer.graph
    values = [("input", v) for v in graph.inputs] + [("output", v) for v in graph.outputs]
    rows = [(role, v.name, v.dtype.numpy().name if v.dtype else "?", _shape(v)) for role, v in values]
    opset = explainer.opset_imports.get("", 0)
    title = f"{output}: {method}, {size / 1e6:.1f} MB, opset {opset}, IR {explainer.ir_version}"
    click.echo(aligned(Table(title, rows)))


def _shape(value: "ir.Value") -> str:
    if value.shape is None:
        return "?"
    return f"({', '.join('?' if d is None else str(d) for d in (getattr(d, 'value', d) for d in value.shape))})"
