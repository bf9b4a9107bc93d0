"""The network: backbones, classifier, decoders, pretrained weights; what a network answers, and its files."""
