"""What child processes are told about memory."""

import subprocess
import sys

import pytest

from dabook.runs import allocation

STEP = """
import hashlib, torch
torch.set_num_threads(1)
torch.manual_seed(0)
layer = torch.nn.Conv2d(3, 32, 3, padding=1)
layer(torch.rand(8, 3, 128, 128)).square().mean().backward()
print(hashlib.sha256(layer.weight.grad.numpy().tobytes()).hexdigest())
"""


def test_what_the_user_has_set_stands(monkeypatch):
    monkeypatch.setenv(allocation.VARIABLE, "glibc.malloc.check=1")
    assert allocation.environment() == {}
    monkeypatch.delenv(allocation.VARIABLE)
    (value,) = allocation.environment().values()
    assert "glibc.malloc.hugetlb=1:" in value


@pytest.mark.slow
def test_it_changes_no_bit(monkeypatch):
    monkeypatch.delenv(allocation.VARIABLE, raising=False)

    def printed() -> str:
        command = [sys.executable, "-c", STEP]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        assert "glibc" not in result.stderr  # which warns of a value that it cannot read
        return result.stdout

    plain = printed()
    for name, value in allocation.environment().items():
        monkeypatch.setenv(name, value)
    assert printed() == plain
