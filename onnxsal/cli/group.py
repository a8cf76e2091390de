"""The group of commands: what `onnxsal --help` needs, and how a run ends."""

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from onnxsal import __version__
from onnxsal.errors import OnnxsalError

# Name and the help of one line, so that `onnxsal --help` imports none of them.
COMMANDS = {
    "explain": "Explain photos: why the model gives the target its score.",
    "inspect": "Show what was found in a model, and which methods work on it.",
    "methods": "List the methods and their settings.",
    "operators": "List the operators that gradients pass.",
    "compile": "Write an explanation as one ONNX file, for any ONNX Runtime.",
    "demo": "Explain two pictures by the built-in models, and write a panel of each.",
}

BAD_INPUT = 2
INTERRUPTED = 130


class LazyGroup(click.Group):
    """Commands that are imported when they are called, and one line for each error."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"onnxsal.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def main(self, args: Sequence[str] | None = None, standalone_mode: bool = True, **extra: Any) -> Any:  # type: ignore[override]  # click's overloads
        """Run, and exit: 0; 2 for what a user can mend, after one line on stderr; 130 when interrupted.

        What is neither is a bug and keeps its traceback.
        """
        if not standalone_mode:
            return super().main(args, standalone_mode=False, **extra)
        try:
            code = super().main(args, standalone_mode=False, **extra)
        except click.UsageError as error:
            _fail(f"{error.format_message()} (see {_path(error)} --help)")
        except click.ClickException as error:
            _fail(error.format_message())
        except OnnxsalError as error:
            _fail(str(error))
        except click.Abort:
            sys.exit(INTERRUPTED)
        sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str) -> None:
    """Print one line, whatever a model's or a photo's author put into the message, and exit."""
    from onnxsal.model.card.text import plain

    click.echo(f"error: {plain(message)}", err=True)
    sys.exit(BAD_INPUT)


def _path(error: click.UsageError) -> str:
    return error.ctx.command_path if error.ctx else "onnxsal"


@click.group(cls=LazyGroup, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="onnxsal")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Explain the model that is deployed: the .onnx file itself, whatever framework trained it."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
        return
    import logging

    # It warns of what an error then says, which is one line.
    logging.getLogger("onnx_ir").setLevel(logging.ERROR)


def main() -> None:
    """Run the command line."""
    cli(prog_name="onnxsal")
