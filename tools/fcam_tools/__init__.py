"""The host tool of fcam: data, training, evaluation and export of inspection bundles."""
