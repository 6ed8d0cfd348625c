"""These tests need TRL and datasets; they share the small model, tokenizer and runs of this folder."""

import os
import sys
from pathlib import Path

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
sys.path.insert(0, str(Path(__file__).parent))
