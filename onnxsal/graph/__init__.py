"""ONNX surgery on onnx_ir: build, canonicalise, infer shapes, expose, prune."""
