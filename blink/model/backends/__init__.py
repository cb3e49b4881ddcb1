"""What runs a context encoder: PyTorch or ONNX Runtime, behind one protocol of arrays."""
