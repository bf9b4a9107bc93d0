"""What the host tool refuses, as one exception: the command line prints its message and exits with code 2."""


class ToolError(Exception):
    """A refusal: the message is lower case, has no full stop, and says what to do."""
