"""Makes `fcam_tools` importable from a checkout that has not been installed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
