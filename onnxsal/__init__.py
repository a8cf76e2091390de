"""Explains the model that is deployed: the `.onnx` file itself."""
