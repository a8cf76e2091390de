"""How far a long run is: one line on stderr, on a terminal only."""

import sys

import click


class Progress:
    """A line that is rewritten as work goes on."""

    def __init__(self, total: int) -> None:
        """Count to `total` images; a single one needs no counting."""
        self._total = total
        self._shown = total > 1 and on_terminal()

    def show(self, verb: str, done: int) -> None:
        """Say what is being done, and how many images are behind."""
        if self._shown:
            self._write(f"\r\033[K{verb}: {done} of {self._total}")

    def clear(self) -> None:
        """Take the line away, before something else is printed."""
        if self._shown:
            self._write("\r\033[K")

    @staticmethod
    def _write(text: str) -> None:
        click.echo(text, err=True, nl=False)


def on_terminal() -> bool:
    """Tell whether someone looks at stderr."""
    return sys.stderr.isatty()
