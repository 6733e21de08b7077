"""What makes an update fast on a CPU changes nothing else."""

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from optimization.training_speed import lay_out_group_norms

from colorize_pipeline import create_unet


def test_group_norms_laid_out_anew_compute_and_learn_the_same_and_leave_channels_last():
    torch.manual_seed(0)
    unet = create_unet("medium").to(memory_format=torch.channels_last)
    laid_out = copy.deepcopy(unet)
    lay_out_group_norms(laid_out)
    model_input = torch.randn(2, unet.config.in_channels, 16, 16).contiguous(memory_format=torch.channels_last)

    outputs = [network(model_input, torch.tensor([10, 900]), return_dict=False)[0] for network in (unet, laid_out)]
    for output in outputs:
        output.square().mean().backward()

    assert laid_out.state_dict().keys() == unet.state_dict().keys()
    torch.testing.assert_close(outputs[1], outputs[0], atol=1e-5, rtol=1e-4)
    for (name, expected), found in zip(unet.named_parameters(), laid_out.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad, atol=1e-5, rtol=1e-3, msg=name)
    norm = laid_out.down_blocks[0].resnets[0].norm1(torch.randn(2, 64, 16, 16))
    assert norm.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.skipif(sys.platform != "linux", reason="the C library of Linux is told")
def test_memory_that_is_freed_is_there_for_the_next_update():
    script = """
import resource
import torch
from optimization.training_speed import keep_freed_memory

keep_freed_memory()
for _ in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(10_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    train = Path(__file__).parents[1] / "train"
    command = [sys.executable, "-c", script]
    page_faults = int(subprocess.run(command, cwd=train, check=True, capture_output=True, text=True).stdout)

    assert page_faults < 50  # else 9,766 pages of 4 kB
