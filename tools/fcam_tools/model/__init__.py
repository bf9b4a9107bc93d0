"""The network: backbones, classifier, decoders, their pretrained weights."""
