"""Training: pictures to batches, losses, stages, runs on the disk, search for a recipe."""
