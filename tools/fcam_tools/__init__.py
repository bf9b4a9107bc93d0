"""The host tool of fcam: data, training, evaluation and export of inspection bundles."""

__version__ = "0.1.0"
