"""`onnxsal operators`: what has a rule, to read and for programs."""

import json
from collections.abc import Callable

from click.testing import Result

from onnxsal.autodiff import supported

Run = Callable[..., Result]


def test_an_operator_is_one_line_with_its_opsets_and_inputs(run: Run) -> None:
    lines = [line.split() for line in run("operators").output.splitlines()]
    assert ["Conv", "7", "to", "28", "X,", "W,", "B"] in lines
    assert ["Upsample", "7", "to", "9", "X,", "as", "Resize", "roi,", "scales"] in lines
    assert len(lines) == len(supported()) + 2


def test_a_program_gets_all_of_it(run: Run) -> None:
    rows = json.loads(run("operators", "--json").output)
    assert len(rows) == len(supported())
    assert {row["operator"]: row for row in rows}["Floor"]["zero"] == ["X"]
