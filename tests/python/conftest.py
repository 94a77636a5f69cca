import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "python"))

try:
    import torch
except ImportError:  # scripts/setup without --python: LibTorch alone
    torch = None
    collect_ignore_glob = ["test_[!t]*.py"]  # all but the tokenizers'


@pytest.fixture(autouse=True)
def seed():
    if torch:
        torch.manual_seed(0)
