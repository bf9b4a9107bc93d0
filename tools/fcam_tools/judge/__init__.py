"""Judging a data set, and a network on it. Pixels' truth is known here and to the right alone."""
