"""What every converter does with the ONNX file it writes: put the card in, compare, keep or remove.

It knows no training framework: a converter hands it a `Framework`, the original model behind
three functions.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx
import onnx_ir
import onnxruntime
from numpy.typing import NDArray

from onnxsal.autodiff import vjp
from onnxsal.errors import OnnxsalError, OutputError
from onnxsal.model.card import Card, card_to_metadata

Array = NDArray[Any]
TOLERANCE = 1e-4
CHANNEL_COUNTS = {"RGB": 3, "BGR": 3, "GRAY": 1}


class DisagreementError(OnnxsalError):
    """Raised when the file does not compute what the original computes; the file is removed."""


class Framework(Protocol):
    """The original model.

    Attributes:
        precision: What `outputs` and `gradient` are computed in: `float64` or `float32`.
    """

    precision: str

    def outputs(self, x: Array) -> list[Array]:
        """Return all outputs for a batch of images, the scores first."""

    def gradient(self, x: Array, cotangent: Array) -> Array:
        """Return the gradient of <cotangent, scores> with respect to x."""

    def float32_gradient(self, x: Array, cotangent: Array) -> Array:
        """Return the same as the framework computes it in everyday use."""


@dataclass(frozen=True)
class Agreement:
    """How far the ONNX file is from the model it came from, on random images.

    Attributes:
        output: The largest difference over all outputs, relative to that output's largest value.
        output_absolute: The largest difference itself.
        gradient: Relative L2 error of the gradient with respect to the image, against the
            framework; the median of the images.
        own_gradient: The same for the framework's float32, which shows how near to a kink they lie.
        agreeing: How many of the `images` have a gradient that rounding explains.
        images: How many were compared.
        precision: What the framework's reference was computed in.
    """

    output: float
    output_absolute: float
    gradient: float
    own_gradient: float
    agreeing: int
    images: int
    precision: str

    def __str__(self) -> str:
        """Return the two numbers a user trusts the file by."""
        return (
            f"outputs: largest difference {self.output_absolute:.1e} ({self.output:.1e} relative)\n"
            f"input gradient: relative error {self.gradient:.1e} against the {self.precision} original, whose own "
            f"float32 is off by {self.own_gradient:.1e}; {self.agreeing} of {self.images} images agree"
        )


@contextmanager
def new_file(output: Path, overwrite: bool) -> Iterator[Path]:
    """Give a temporary path beside `output`, which takes its place if the block ends well.

    Raises:
        OutputError: The file exists already, or cannot be written.
    """
    refuse_overwriting(output, overwrite)
    temporary = output.with_name(f".{output.name}.{os.getpid()}.part")
    try:
        yield temporary
        os.replace(temporary, output)
    finally:
        temporary.unlink(missing_ok=True)


def refuse_overwriting(output: Path, overwrite: bool) -> None:
    """Raise early, before minutes of work, if `output` could not be written in the end."""
    if output.is_dir():
        raise OutputError(f"{output} is a folder; give -o a file name")
    if output.exists() and not overwrite:
        raise OutputError(f"{output} exists; choose another name or give --overwrite")
    if not os.access(output.parent, os.W_OK):
        raise OutputError(f"cannot write into {output.parent}; create the folder or choose another with -o")


def write_card(path: Path, card: Card) -> None:
    """Write `card` into the file's metadata, and drop what an exporter noted about this computer."""
    model = onnx.load(path)
    for node in model.graph.node:
        kept = [entry for entry in node.metadata_props if not entry.key.endswith(("stack_trace", "fx_node"))]
        del node.metadata_props[:]
        node.metadata_props.extend(kept)
    onnx.helper.set_model_props(model, card_to_metadata(card))
    onnx.save(model, path)
    onnx.checker.check_model(path, full_check=True)


def require_agreement(
    path: Path, card: Card, framework: Framework, *, batch: int | None, tolerance: float = TOLERANCE
) -> Agreement:
    """Return how far the file at `path` is from the original.

    A rounding that crosses a kink (a ReLU's zero, a tie in a pooling window) changes the gradient
    of a deep network by far more than its size, in the framework's own float32 as well. A wrong
    file is wrong on every image, a crossed kink concerns one: so most images of a batch have to
    agree, and a batch that does not is drawn again a few times.

    Args:
        path: The ONNX file.
        card: Its card, with `input`, `output` and `size`.
        framework: The original.
        batch: The file's batch size; None if it is open.
        tolerance: Largest relative error allowed in outputs and gradient.

    Raises:
        DisagreementError: Outputs or gradient differ by more than rounding explains.
    """
    # Another batch size than the exporter saw, so that a batch it took for a constant shows.
    batches = [random_images(card, batch or 3, number) for number in range(4)]
    absolute, relative = output_error(path, card, framework, [batches[0], batches[0][: batch or 1]])
    if not relative <= tolerance:
        raise DisagreementError(disagreement("outputs", relative, tolerance))
    gradient = open_gradient(path, card)
    for number, x in enumerate(batches):
        cotangent = random_array(number, framework.outputs(x)[0].shape)
        exact = framework.gradient(x, cotangent)
        error = relative_l2(gradient(x, cotangent), exact)
        own = relative_l2(framework.float32_gradient(x, cotangent), exact)
        # Where the framework's own float32 is further off, so may another implementation be.
        agreeing = int(np.sum(error <= np.maximum(tolerance, 4 * own)))
        if 2 * agreeing > len(x):
            medians = float(np.median(error)), float(np.median(own))
            return Agreement(relative, absolute, *medians, agreeing, len(x), framework.precision)
    raise DisagreementError(disagreement("input gradient", float(np.median(error)), tolerance))


def disagreement(what: str, error: float, tolerance: float) -> str:
    """Return the message for a file that is too far from its original."""
    return (
        f"{what}: the ONNX file is {error:.1e} (relative) away from the original, and {tolerance:.1e} is allowed; "
        f"no file was written; try another exporter, or raise --tolerance"
    )


def random_images(card: Card, batch: int, number: int) -> NDArray[np.float32]:
    """Return random images (batch, C, H, W) as they look after normalisation; the same for the same `number`."""
    assert card.size
    return random_array(number, (batch, channel_count(card), *card.size))


def channel_count(card: Card) -> int:
    """Return the channels of the model's input."""
    return CHANNEL_COUNTS[card.channels or "RGB"]


def random_array(number: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return a standard normal array."""
    return np.random.default_rng([number, *shape]).standard_normal(shape, dtype=np.float32)


def relative_l2(value: Array, reference: Array) -> NDArray[np.float64]:
    """Return |value - reference| / |reference| of each image, Euclidean."""
    size = np.linalg.norm(reference.reshape(len(reference), -1).astype(np.float64), axis=1)
    difference = (value.astype(np.float64) - reference).reshape(len(reference), -1)
    ratio: NDArray[np.float64] = np.linalg.norm(difference, axis=1) / np.maximum(size, 1e-30)
    return ratio


def output_error(path: Path, card: Card, framework: Framework, batches: list[Array]) -> tuple[float, float]:
    """Return the largest absolute and relative difference over the outputs and `batches`."""
    assert card.input
    session = open_session(path.read_bytes())
    absolute, relative = [], []
    for x in batches:
        for ours, theirs in zip(run(session, {card.input: x}), framework.outputs(x), strict=True):
            absolute.append(float(np.abs(ours - theirs).max()))
            relative.append(absolute[-1] / max(float(np.abs(theirs).max()), 1e-30))
    return max(absolute), max(relative)


def open_gradient(path: Path, card: Card) -> Callable[[Array, Array], Array]:
    """Return onnxsal's gradient of the file at `path`: images and cotangent in, gradient out."""
    scores, image = card.output, card.input
    assert scores
    assert image
    model = vjp(onnx_ir.load(path), of=[scores], wrt=[image])
    session = open_session(onnx_ir.to_proto(model).SerializeToString())

    def gradient(x: Array, cotangent: Array) -> Array:
        feeds = {image: x, f"cotangent_{scores}": cotangent}
        return run(session, feeds, [f"grad_{image}"])[0]

    return gradient


def open_session(model: bytes) -> onnxruntime.InferenceSession:
    """Return a CPU session; ONNX Runtime's warnings are of no use to the reader here."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run(
    session: onnxruntime.InferenceSession, feeds: Mapping[str, Array], names: list[str] | None = None
) -> list[Array]:
    """Run `session`.

    Raises:
        DisagreementError: The file does not run on another batch size than it was exported with.
    """
    try:
        outputs: list[Array] = session.run(names, feeds)
    except Exception as error:
        shape = next(iter(feeds.values())).shape
        raise DisagreementError(
            f"the ONNX file does not run on an input {shape}: {first_line(error)}; no file was written; try --batch 1"
        ) from error
    return outputs


def first_line(error: Exception) -> str:
    """Return the first line of an error that says something."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
