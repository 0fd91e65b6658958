"""Deep models as ONNX graphs and embedding tables."""
