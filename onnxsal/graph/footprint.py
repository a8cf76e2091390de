"""What one sample takes in a run of a graph; `graph.measuring` finds it out."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Footprint:
    """What a run of one sample takes, in bytes.

    Attributes:
        peak: What its values take where most of them are held at a time.
        made: What all values that it makes take.
        weights: What the graph's weights take.
    """

    peak: int
    made: int
    weights: int
