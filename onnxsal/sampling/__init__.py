"""Loops of perturbed runs: what to draw, in which order to run it, and what to make of the answers.

A perturbation has an index, and everything about it follows from that index and the seed. So it does not matter which
batch, worker or process runs it, or whether the loop was interrupted: the map is the same.
"""
