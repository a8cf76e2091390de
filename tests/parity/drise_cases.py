"""What `freeze_drise.py` writes and `test_drise.py` reads."""

from pathlib import Path

from support.detector import squares

FOLDER = Path(__file__).with_name("perturbation_data")
PHOTO = squares((0, 8, 8), (2, 40, 32))
SEED, COUNT, CELLS = 4, 40, 6
# A mask that is not square, and of another number of rows than columns.
SHAPE, GRID = (23, 37), (5, 4)
