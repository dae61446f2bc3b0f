"""INT8: the ONNX form quantised on training images, and what that costs, SE by SE."""
