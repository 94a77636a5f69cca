import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "python"))


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)
