"""Einsum: any equation."""

import numpy as np
from support.derivatives import case

rng = np.random.default_rng(7)


def einsum(equation, *shapes, note=""):
    """An equation on operands of these shapes: stated, then known at run time only."""
    names = [f"x{i}" for i in range(len(shapes))]
    feeds = {n: rng.standard_normal(s) for n, s in zip(names, shapes, strict=True)}
    y = np.einsum(equation, *feeds.values()).shape
    made = []
    for dynamic in (False, True):
        said = [_spelled(s, n if dynamic else None) for n, s in zip([*names, "y"], [*shapes, y], strict=True)]
        signature = ", ".join(f"{kind} {n}" for kind, n in zip(said, names, strict=False))
        text = f'({signature}) => ({said[-1]} y) {{ y = Einsum<equation="{equation}">({", ".join(names)}) }}'
        label = f"{equation} of {shapes}{': ' * bool(note)}{note}{', at run time' if dynamic else ''}"
        made.append(case("Einsum", text, feeds=feeds, note=label))
    return made


def _spelled(shape, name):
    """Write a type; with a name its sizes are unknown."""
    sizes = [str(d) if name is None else f"{name}_{i}" for i, d in enumerate(shape)]
    return f"double[{','.join(sizes)}]" if sizes else "double"


CASES = [
    *einsum("ij,jk->ik", (2, 3), (3, 4)),
    *einsum("ij,jk", (2, 3), (3, 4), note="implicit output"),
    *einsum("ba,cb", (2, 3), (4, 2), note="implicit output, sorted"),
    *einsum("bhwc,hkc->bhwk", (2, 3, 4, 5), (3, 6, 5), note="relative positions of attention"),
    *einsum("nqc, nck -> nqk", (2, 3, 4), (2, 4, 5), note="with spaces"),
    *einsum("i,j->ij", (2,), (3,), note="outer product"),
    *einsum("i,i->", (3,), (3,), note="inner product"),
    *einsum("ij->ji", (2, 3)),
    *einsum("ij->", (2, 3), note="sum of all"),
    *einsum("ij->j", (2, 3), note="a label summed alone"),
    *einsum("ijk,kl->jl", (2, 3, 4), (4, 5), note="a label summed alone, beside a product"),
    *einsum("ii->i", (3, 3), note="diagonal"),
    *einsum("ii->", (3, 3), note="trace"),
    *einsum("iij,ik->kj", (3, 3, 2), (3, 4), note="diagonal within a product"),
    *einsum("ij,ij->ij", (2, 3), (2, 3), note="elementwise"),
    *einsum("...ij,...jk->...ik", (2, 5, 3, 4), (2, 5, 4, 2), note="ellipsis"),
    *einsum("...ij,...jk->...ik", (1, 5, 3, 4), (2, 1, 4, 2), note="ellipses that broadcast"),
    *einsum("...i,i", (2, 3), (3,), note="ellipsis, implicit output"),
    *einsum("i...->...", (3, 2)),
    *einsum("ij,jk,kl->il", (2, 3), (3, 4), (4, 5), note="three operands"),
    *einsum("ij,ij->j", (1, 3), (2, 3), note="a label of length 1 that is repeated"),
    *einsum(",ij->ij", (), (2, 3), note="a scalar"),
]
