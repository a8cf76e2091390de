"""The model: its file, its canonical graph and its card."""
