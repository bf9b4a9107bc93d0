"""What engines are timed with, and against."""
