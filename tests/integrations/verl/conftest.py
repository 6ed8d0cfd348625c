"""These tests need verl with what its trainer imports; they share the rows and the re-enacted worker of this folder."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

# What the tests share is imported by them, after they have seen that verl is there.
collect_ignore = ["cpu_rank.py", "verl_driver.py", "verl_rows.py"]
