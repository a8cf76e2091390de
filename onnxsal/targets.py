"""Which one scalar per sample is explained: a class, a probability, a contrast, a neuron.

A target has a *form*, which is built into the explainer graph, and an *index*, which is an input of
it, so that one compiled session serves every class.
"""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from onnxsal.errors import TargetError

if TYPE_CHECKING:
    import onnx_ir as ir

    from onnxsal.graph.builder import Op

TOP = -1
"""The index that stands for the top class, or a layer's most active channel."""
NO_MAP = "a region is one of a map of classes, and this model's scores are of the whole photo"


@dataclass(frozen=True)
class Form:
    """What of a target is built into the graph.

    Attributes:
        kind: `logit`; `probability`; `contrast`, the difference of two logits; `neuron`; `box`, a detection.
        layer: The layer of a neuron.
        at: Row and column of a neuron in the layer's grid; None sums over the channel.
        part: Of a detection: its `score`, or the place of one side of its box, `x1`, `y1`, `x2` or `y2`.
        pixels: Over which pixels of a map of classes scores are summed: `all`; those `predicted` as the class; those of
            a `mask`, which is an input of the graph.
    """

    kind: Literal["logit", "probability", "contrast", "neuron", "box"] = "logit"
    layer: str | None = None
    at: tuple[int, int] | None = None
    part: str = "score"
    pixels: Literal["all", "predicted", "mask"] = "all"


@dataclass(frozen=True)
class Target:
    """One scalar per sample.

    Attributes:
        form: What is built into the graph.
        index: The class, the channel, or the number of the detection; -1 is the top one, of detections all.
        minus: The class that a contrast subtracts.
        region: Of a target over the pixels of a mask, the box it is, (x1, y1, x2, y2) in pixels of the photo.
        rank: Explain the class of that rank, 1 the top; None where `index` says it.
        text: As the user wrote it.
        label: The label of the class, once it is known.
    """

    form: Form = Form()
    index: int = TOP
    minus: int | None = None
    region: tuple[float, float, float, float] | None = None
    rank: int | None = None
    text: str = "top"
    label: str | None = None

    def __int__(self) -> int:
        """Return the index."""
        return self.index

    def __str__(self) -> str:
        """Return what is explained, for people: `281 tabby`, or the text where that says more."""
        if self.form.kind == "neuron" or self.form.kind == "contrast":
            return self.text
        if self.form.kind == "box":
            return f"{self.text} {self.label}" if self.label else self.text
        named = f"{self.index} {self.label}" if self.label else str(self.index)
        if self.form.pixels != "all":
            named += " in a region" if self.form.pixels == "mask" else " where it is predicted"
        return f"probability of {named}" if self.form.kind == "probability" else named

    def facts(self) -> dict[str, object]:
        """Return the target as JSON types."""
        at = None if self.form.at is None else list(self.form.at)
        said: dict[str, object] = {
            "kind": self.form.kind,
            "index": self.index,
            "label": self.label,
            "minus": self.minus,
            "text": self.text,
        }
        said |= {"part": self.form.part} if self.form.kind == "box" else {}
        said |= {} if self.form.pixels == "all" else {"pixels": self.form.pixels, "region": self.region}
        return said | ({"layer": self.form.layer, "at": at} if self.form.kind == "neuron" else {})

    def resolved(self, index: int, label: str | None) -> "Target":
        """Return the target with the class it turned out to be."""
        return replace(self, index=index, label=label, rank=None)


def parse_target(
    target: "str | int | Target | None", labels: Sequence[str] | None, classes: int | None
) -> list[Target]:
    """Read what a user wrote: `top`, `top:3`, `281`, `tabby`, `prob:281`, `281-285`, `layer:NAME,channel=17,at=3,5`.

    `class:281` is 281 too; of a segmentation, where it is predicted. `class:281@10,20,50,60` is a region, in pixels of
    the photo, `class:281@all` the whole; `prob:` takes both as well.

    Args:
        target: The target; None is `top`. `top:3` is three targets, anything else one.
        labels: The class names, in order of index, if known.
        classes: The number of classes, if known.

    Raises:
        TargetError: There is no such class or label, or the text cannot be read.
    """
    if isinstance(target, Target):
        return [target]
    if isinstance(target, bool):
        raise TargetError(f"target {target!r} is neither a class index nor a label")
    text = "top" if target is None else str(target).strip()
    if text == "top":
        return [Target()]
    if match := re.fullmatch(r"top:(\d+)", text):
        return _top(int(match[1]), classes)
    if text == "all":
        return [Target(Form("box"), text=text)]
    if match := re.fullmatch(r"box:(\d+)(?:,(x1|y1|x2|y2))?", text):
        return [Target(Form("box", part=match[2] or "score"), int(match[1]), text=text)]
    if text.startswith("layer:"):
        return [_neuron(text)]
    if text.startswith(("prob:", "class:")):
        return [_of_class(text, labels, classes)]
    contrast = _contrast(text, labels, classes)
    return [contrast or Target(index=find_class(text, labels, classes), text=text)]


def _of_class(text: str, labels: Sequence[str] | None, classes: int | None) -> Target:
    """Read `prob:281` or `class:281`, perhaps with the pixels that count behind an `@`."""
    kind, _, rest = text.partition(":")
    name, at, where = rest.rpartition("@") if _REGION.search(rest) else (rest, "", "")
    name = name.strip()
    index = TOP if name == "top" else find_class(name, labels, classes)
    pixels: Literal["all", "predicted", "mask"] = "predicted" if kind == "class" and not at else "all"
    region = None
    if at and where.strip() != "all":
        x1, y1, x2, y2 = (float(side) for side in where.split(","))
        pixels, region = "mask", (x1, y1, x2, y2)
        if not (x1 < x2 and y1 < y2):
            raise TargetError(f"target {text!r}: a region is x1,y1,x2,y2 with x1 < x2 and y1 < y2")
    form = Form("logit" if kind == "class" else "probability", pixels=pixels)
    return Target(form, index, region=region, text=text)


_REGION = re.compile(r"@\s*(all|[-+.\d]+(\s*,\s*[-+.\d]+){3})\s*$")


def find_class(text: str, labels: Sequence[str] | None, classes: int | None) -> int:
    """Return the index of a class given as index or label.

    A label matches exactly, or, ignoring case, if only one does.
    """
    if re.fullmatch(r"-?\d+", text):
        return _checked_index(int(text), classes)
    if not labels:
        raise TargetError(
            f"target {text!r} is not a class index, and the model's labels are not known: give an index, or a "
            f"card with labels"
        )
    exact = [i for i, label in enumerate(labels) if label == text]
    folded = exact or [i for i, label in enumerate(labels) if label.casefold() == text.casefold()]
    parts = folded or [i for i, label in enumerate(labels) if text.casefold() in _names(label)]
    if len(parts) == 1:
        return parts[0]
    if parts:
        found = ", ".join(f"{i} {labels[i]!r}" for i in parts[:5])
        raise TargetError(f"label {text!r} fits {len(parts)} classes: {found}; give the index")
    near = difflib.get_close_matches(text.casefold(), [label.casefold() for label in labels], n=3, cutoff=0.4)
    names = [f"{i} {label!r}" for i, label in enumerate(labels) if label.casefold() in near][:3]
    ends = f"classes go from 0 {labels[0]!r} to {len(labels) - 1} {labels[-1]!r}"
    hint = f"the nearest are {', '.join(names)}" if names else ends
    raise TargetError(f"no class is labelled {text!r}; {hint}")


def check_range(targets: Sequence[Target], classes: int | None, channels: int | None = None) -> None:
    """Check targets that were read before the number of classes, or of a layer's channels, was known.

    Raises:
        TargetError: A class, a channel or a rank is beyond the last.
    """
    for target in targets:
        if target.form.kind == "neuron":
            if channels is not None and target.index >= channels:
                layer = target.form.layer
                raise TargetError(f"layer {layer!r} has no channel {target.index}; they go from 0 to {channels - 1}")
            continue
        for index in (target.index, target.minus):
            if index is not None and index != TOP:
                _checked_index(index, classes)
        if target.rank is not None and classes is not None and target.rank > classes:
            raise TargetError(f"{target.text} asks for more classes than the model has: {classes}")


def _names(label: str) -> list[str]:
    """Return the names that a label lists, as ImageNet's do: `tabby, tabby cat`."""
    return [part.strip().casefold() for part in label.split(",")]


def _checked_index(index: int, classes: int | None) -> int:
    if index < 0 or (classes is not None and index >= classes):
        last = f" to {classes - 1}" if classes is not None else " up"
        raise TargetError(f"there is no class {index}; classes go from 0{last}")
    return index


def _top(count: int, classes: int | None) -> list[Target]:
    if count < 1 or (classes is not None and count > classes):
        raise TargetError(f"top:{count} asks for {count} classes of {classes if classes is not None else 'some'}")
    return [Target(rank=r, text=f"top:{r}") for r in range(1, count + 1)]


def _contrast(text: str, labels: Sequence[str] | None, classes: int | None) -> Target | None:
    """Read `281-285`; labels may hold hyphens themselves, so a label of that name comes first."""
    if labels and any(text.casefold() == label.casefold() for label in labels):
        return None
    match = re.fullmatch(r"(\d+)\s*-\s*(\d+)", text)
    if match is None:
        return None
    plus, minus = (_checked_index(int(part), classes) for part in match.groups())
    return Target(Form("contrast"), plus, minus, text=text)


def _neuron(text: str) -> Target:
    """Read `layer:NAME,channel=17` or `layer:NAME,channel=17,at=3,5`. The name may hold commas."""
    match = re.fullmatch(r"layer:(?P<layer>.+?),\s*channel=(?P<channel>\d+)(?:,\s*at=(?P<y>\d+),\s*(?P<x>\d+))?", text)
    if match is None:
        raise TargetError(
            f"target {text!r} cannot be read: write layer:NAME,channel=17 or layer:NAME,channel=17,at=ROW,COLUMN"
        )
    at = None if match["y"] is None else (int(match["y"]), int(match["x"]))
    return Target(Form("neuron", match["layer"], at), int(match["channel"]), text=text)


# ----- In the graph -----


def resolve_top(op: "Op", index: "ir.Value", scores: "ir.Value") -> "ir.Value":
    """Return `index`, with the place of the largest score (N, K) where it is negative."""
    best = op.ArgMax(scores, axis=1, keepdims=0)
    return op.Where(op.Less(index, op.const(0)), best, index)
