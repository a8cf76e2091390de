"""The case table of the rules, and a part of it that has something of every operator."""

from importlib import import_module
from pathlib import Path

from support.derivatives import Case

FOLDER = Path(__file__).parents[1] / "autodiff" / "cases"
RANDOM = frozenset({"Bernoulli", "Multinomial", "RandomNormalLike", "RandomUniformLike"})


def all_cases() -> list[Case]:
    families = sorted(path.stem for path in FOLDER.glob("*.py"))
    return [case for family in families for case in import_module(f"autodiff.cases.{family}").CASES]


def some_of_each_operator(most: int) -> list[Case]:
    """Return up to `most` cases of each operator that run in ONNX Runtime and repeat, spread over the table."""
    found: dict[str, list[Case]] = {}
    for case in all_cases():
        if "ort" in case.runtimes and case.op_type not in RANDOM:
            found.setdefault(case.op_type, []).append(case)
    spread = {op: [cases[i * (len(cases) - 1) // max(most - 1, 1)] for i in range(most)] for op, cases in found.items()}
    return [case for op in sorted(spread) for case in dict.fromkeys(spread[op])]
