"""Options that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

Decorator = Callable[[Any], Any]

TARGET_HELP = (
    "top (default), top:3, a class index, a label, prob:281, 281-285, layer:NAME,channel=17[,at=ROW,COLUMN]; of a "
    "segmentation class:15 (where it is predicted) or class:15@x1,y1,x2,y2; of a detector box:0, all, top, or a label."
)


def model_argument() -> Decorator:
    """Return MODEL."""
    return click.argument("model", type=click.Path(path_type=Path))


def card_option() -> Decorator:
    """Return --card."""
    return click.option(
        "--card",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="TOML file with what the model does not say: preprocessing, layout, labels.",
    )


def target_option(text: str = TARGET_HELP) -> Decorator:
    """Return -t."""
    return click.option("-t", "--target", help=text)


def layer_option() -> Decorator:
    """Return -l."""
    return click.option("-l", "--layer", help="Layer to look at, for methods that take one: an ONNX value or node.")


def settings_option() -> Decorator:
    """Return --set, as a mapping."""
    return click.option(
        "--set",
        "settings",
        metavar="KEY=VALUE",
        multiple=True,
        callback=_pairs,
        help="Setting of a method, see `onnxsal methods`. Repeatable.",
    )


def like_option() -> Decorator:
    """Return --like."""
    return click.option(
        "--like",
        metavar="LIBRARY",
        help="Take the conventions of captum, pair, torchray, eclique or vem; --set wins over them.",
    )


def loop_options() -> Decorator:
    """Return --workers, --tolerance and --checkpoint, of methods that run the model many times."""
    workers = click.option(
        "--workers",
        type=click.IntRange(min=1),
        help="Runs at a time, for methods of many runs; by default one per core, on a GPU one.",
    )
    tolerance = click.option(
        "--tolerance",
        metavar="PART",
        type=click.FloatRange(min=0, min_open=True),
        help="End a sampled map once its standard error is below this part of its range (smoothgrad: of its root mean "
        "square), such as 0.02.",
    )
    checkpoint = click.option(
        "--checkpoint",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="Write a sampled map down in FILE as it goes on, and go on from there when it exists.",
    )

    def decorate(command: Any) -> Any:
        return workers(tolerance(checkpoint(command)))

    return decorate


def inputs_option() -> Decorator:
    """Return --input, as a mapping."""
    return click.option(
        "--input",
        "inputs",
        metavar="NAME=FILE.npy",
        multiple=True,
        callback=_pairs,
        help="An input beside the image: one sample for all images, or one for each. Repeatable.",
    )


def folder_option(default: Path) -> Decorator:
    """Return -o, a folder."""
    shown = f"`{default}`" if default.name else "this one"
    return click.option(
        "-o",
        "--output",
        metavar="FOLDER",
        type=click.Path(path_type=Path),
        default=default,
        help=f"Folder to write to, made if missing; default: {shown}.",
    )


def overwrite_option() -> Decorator:
    """Return --overwrite."""
    return click.option("--overwrite", is_flag=True, help="Replace files that are there already.")


def json_option(text: str) -> Decorator:
    """Return --json."""
    return click.option("--json", "as_json", is_flag=True, help=text)


def _pairs(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """Return KEY=VALUE texts as a mapping."""
    pairs: dict[str, str] = {}
    for text in values:
        key, equals, value = text.partition("=")
        if not (key and equals and value):
            raise click.BadParameter(f"{text!r} is not of the form {param.make_metavar(ctx)}", ctx, param)
        if key in pairs:
            raise click.BadParameter(f"{key!r} is given twice", ctx, param)
        pairs[key] = value
    return pairs
