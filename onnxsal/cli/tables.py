"""Tables on a terminal, or as aligned text. Cells come from strangers' files: never read as markup."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from onnxsal.model.card import plain

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Table:
    """Rows under a title.

    Attributes:
        title: Stands above.
        rows: Cells; rows may be of different lengths.
        header: Names of the columns, if they need any.
    """

    title: str
    rows: Sequence[Sequence[object]]
    header: Sequence[str] = ()

    @property
    def cells(self) -> list[list[str]]:
        """The header, if there is one, and the rows: text of one line per cell, all of the same length."""
        rows = ([self.header] if self.header else []) + list(self.rows)
        width = max(map(len, rows), default=0)
        return [[plain(cell) for cell in row] + [""] * (width - len(row)) for row in rows]


def show(tables: Sequence[Table]) -> None:
    """Print tables: with colours and wrapped cells on a terminal, else as aligned text."""
    if sys.stdout.isatty():
        from rich.console import Console

        show_on_terminal(tables, Console())
    else:
        click.echo("\n\n".join(aligned(table) for table in tables))


def aligned(table: Table) -> str:
    """Return a table as text, its columns aligned."""
    rows = table.cells
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([plain(table.title), *(f"  {line}" for line in lines)])


def show_on_terminal(tables: Sequence[Table], console: "Console") -> None:
    """Print tables as rich draws them; `Text` is never parsed for markup."""
    from rich.table import Table as RichTable
    from rich.text import Text

    for table in tables:
        drawn = RichTable(title=Text(plain(table.title), "bold"), title_justify="left", box=None, pad_edge=False)
        drawn.show_header = bool(table.header)
        rows = table.cells
        header = rows.pop(0) if table.header else [""] * len(rows[0] if rows else [])
        for name in header:
            drawn.add_column(Text(name), overflow="fold")
        for row in rows:
            drawn.add_row(*map(Text, row))
        console.print(drawn)
        console.print()
