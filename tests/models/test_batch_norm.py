"""The statistics of a batch that two processes share are those of the whole batch, and so are the gradients."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from pmg.domain import PmgError
from pmg.models.preference.batch_norm import SharedBatchNorm1d

SPLIT = (3, 5)  # rows of each process
PROCESS = """
import sys
import torch
from torch import distributed
from pmg.models.preference.batch_norm import SharedBatchNorm1d

folder, rank = sys.argv[1], int(sys.argv[2])
distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
rows, weights = (part.split((3, 5))[rank] for part in torch.load(f"{folder}/batch.pt", weights_only=True))
rows.requires_grad_()
norm = SharedBatchNorm1d(rows.shape[1], affine=False).train()
out = norm(rows)
(out * weights).sum().backward()
alone = norm.eval()(rows.detach())
torch.save([out.detach(), rows.grad, norm.running_mean, norm.running_var, alone], f"{folder}/{rank}.pt")
distributed.destroy_process_group()  # else its threads may end the process by SIGABRT
"""


def batch():
    generator = torch.Generator().manual_seed(0)
    return 3 + 2 * torch.randn(8, 6, generator=generator), torch.randn(8, 6, generator=generator)


@pytest.mark.slow
def test_two_processes_standardise_as_one_does(tmp_path):
    torch.save(batch(), tmp_path / "batch.pt")
    started = [subprocess.Popen([sys.executable, "-c", PROCESS, str(tmp_path), str(rank)]) for rank in range(2)]
    assert [process.wait(120) for process in started] == [0, 0]
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    rows, weights = batch()
    rows.requires_grad_()
    norm = nn.BatchNorm1d(rows.shape[1], affine=False).train()
    out = norm(rows)
    (out * weights).sum().backward()
    torch.testing.assert_close(torch.cat([part[0] for part in parts]), out.detach())
    torch.testing.assert_close(torch.cat([part[1] for part in parts]), rows.grad)
    for part in parts:
        torch.testing.assert_close(part[2:4], [norm.running_mean, norm.running_var])
    torch.testing.assert_close(torch.cat([part[4] for part in parts]), norm.eval()(rows.detach()))


def test_one_process_is_torchs_own():
    rows, _ = batch()
    mine, theirs = (kind(6, affine=False).train() for kind in (SharedBatchNorm1d, nn.BatchNorm1d))
    assert torch.equal(mine(rows), theirs(rows))
    assert torch.equal(mine.running_var, theirs.running_var)


def test_one_row_is_refused_in_training_with_the_key_to_change():
    norm = SharedBatchNorm1d(3, affine=False)
    with pytest.raises(PmgError, match=r"set objective\.users_per_step=2 or more$"):
        norm(torch.zeros(1, 3))
    assert norm.eval()(torch.zeros(1, 3)).shape == (1, 3)
