"""Where `freeze_perturbation.py` writes and `test_perturbation.py` reads."""

from pathlib import Path

FOLDER = Path(__file__).with_name("perturbation_data")
NETS = ("residual", "vgg")
# Presets that are compared elsewhere: without settings of their own in test_methods.py, D-RISE in test_drise.py; PAIR's
# gradient is the gradient.
ELSEWHERE = {
    ("captum", "grad-x-input"),
    ("captum", "guided-backprop"),
    ("captum", "deconvnet"),
    ("pair", "gradient"),
    ("vem", "d-rise"),
}
