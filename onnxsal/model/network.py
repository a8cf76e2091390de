"""The network: a model file, its card, its graph in canonical form, and what was found in it."""

from functools import cached_property
from typing import TYPE_CHECKING

from onnxsal.model.card import ResolvedCard
from onnxsal.model.source import Signature, Source

if TYPE_CHECKING:
    import onnx_ir as ir

    from onnxsal.model.findings import Findings


class Network:
    """The deployed network, as data; it never knows what will be asked of it.

    Graph and findings are made when they are first wanted: an explanation that was compiled before
    needs neither.

    Attributes:
        source: The file, or bytes.
        card: What the file does not say.
    """

    def __init__(self, source: Source, card: ResolvedCard) -> None:
        """Join a source and its card."""
        self.source = source
        self.card = card

    @property
    def sha256(self) -> str:
        """Hash of the file, external weights included."""
        return self.source.sha256

    @property
    def signature(self) -> Signature:
        """What the file's header says."""
        return self.source.signature

    @property
    def reading_key(self) -> list[object]:
        """What of the card decides how the graph is read, as classes or as a detector's head."""
        card = self.card.card
        return [self.card.image.name, card.layout, card.size, card.output, self.card.said_task, card.classes]

    @cached_property
    def _original(self) -> "ir.Model":
        from onnxsal.graph.canonical import canonicalise
        from onnxsal.model.batch import admit_one_sample

        with self.source.blamed():
            model = canonicalise(self.source.load_ir())
        admit_one_sample(model, self.card.image.name)
        return model

    @property
    def one_at_a_time(self) -> bool:
        """Whether the graph takes one sample, or another fixed number, at a time, whatever the file declares."""
        image = next(v for v in self._original.graph.inputs if v.name == self.card.image.name)
        return image.shape is not None and isinstance(image.shape[0], int)

    @cached_property
    def _batched(self) -> "ir.Model":
        from onnxsal.model.batch import make_batch_dynamic

        model = make_batch_dynamic(self._original)
        assert model is not None, "asked for only after it worked"
        return model

    @cached_property
    def _findings(self) -> "Findings":
        from onnxsal.model.findings import find

        with self.source.blamed():
            return find(self._original, self.card)

    @cached_property
    def _batched_findings(self) -> "Findings":
        from onnxsal.model.findings import find

        return find(self._batched, self.card)

    def graph(self, *, batched: bool = False) -> "ir.Model":
        """Return the graph in canonical form; `batched`: made for any number of samples."""
        return self._batched if batched else self._original

    def findings(self, *, batched: bool = False) -> "Findings":
        """Return what was found in the graph."""
        return self._batched_findings if batched else self._findings
