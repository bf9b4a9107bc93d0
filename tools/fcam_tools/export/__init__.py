"""From a checkpoint to a bundle: ONNX, int8, the rules of the network file, the proof."""
