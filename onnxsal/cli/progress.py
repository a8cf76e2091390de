"""How far a long run is: one line on stderr, on a terminal only."""

import sys
import time
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from onnxsal.sampling.scheduler import Status

SHOW_EVERY = 0.2  # seconds


class Progress:
    """A line that is rewritten as work goes on."""

    def __init__(self, total: int) -> None:
        """Count to `total` images; a single one needs no counting."""
        self._total = total
        self._on_terminal = on_terminal()
        self._shown = total > 1 and self._on_terminal
        self._images = ""
        self._written = 0.0
        self._line = False

    def show(self, verb: str, done: int) -> None:
        """Say what is being done, and how many images are behind."""
        if self._shown:
            self._images = f"{verb}: {done} of {self._total}"
            self._write(f"\r\033[K{self._images}")

    def follow(self, status: "Status") -> None:
        """Say how far a loop of many runs is, how long it will take, and how sure its map is by now."""
        now = time.monotonic()
        if self._on_terminal and (now - self._written > SHOW_EVERY or status.done == status.total):
            self._written = now
            self._write(f"\r\033[K{'; '.join(part for part in (self._images, describe(status)) if part)}")

    def clear(self) -> None:
        """Take the line away, before something else is printed."""
        if self._line:
            self._line = False
            click.echo("\r\033[K", err=True, nl=False)

    def _write(self, text: str) -> None:
        self._line = True
        click.echo(text, err=True, nl=False)


def describe(status: "Status") -> str:
    """Return `1240 of 4000 runs, 35 s left, standard error 2.1 %`."""
    left = "" if status.seconds_left is None else f", {_spoken(status.seconds_left)} left"
    error = "" if status.error is None else f", standard error {100 * status.error:.1f} %"
    return f"{status.done} of {status.total} runs{left}{error}"


def _spoken(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def on_terminal() -> bool:
    """Tell whether someone looks at stderr."""
    return sys.stderr.isatty()
