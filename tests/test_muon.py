"""The optimizer, on a real tiny network."""

import pytest
import torch
from optimization.muon import MuonAdamW

from colorize_pipeline import create_unet


def seeded_unet() -> torch.nn.Module:
    torch.manual_seed(0)
    return create_unet("tiny").to(memory_format=torch.channels_last)


def take_steps(unet: torch.nn.Module, optimizer: MuonAdamW, steps: range) -> None:
    for step in steps:
        sample = torch.randn(2, unet.config.in_channels, 8, 8, generator=torch.Generator().manual_seed(step))
        unet(sample, torch.tensor([3, 700])).sample.square().mean().backward()
        for group in optimizer.param_groups:
            group["lr"] = 1e-3
        optimizer.step()
        optimizer.zero_grad()


def test_every_parameter_moves_and_a_convolution_moves_in_all_directions_alike():
    unet = seeded_unet()
    before = {name: weight.detach().clone() for name, weight in unet.named_parameters()}

    take_steps(unet, MuonAdamW(unet.parameters(), weight_decay=0.0), range(1))

    moves = {name: weight.detach() - before[name] for name, weight in unet.named_parameters()}
    assert all(move.abs().max() > 0 for move in moves.values())
    singular_values = torch.linalg.svdvals(moves["conv_in.weight"].flatten(start_dim=1))
    assert singular_values.max() / singular_values.min() < 2.5
    # Scaled to the usual size of AdamW's updates, 0.2 of the learning rate.
    assert moves["conv_in.weight"].square().mean().sqrt() == pytest.approx(0.2e-3, rel=0.3)


def test_an_optimizer_that_loads_a_state_goes_on_where_the_other_stood():
    through = seeded_unet()
    take_steps(through, MuonAdamW(through.parameters(), weight_decay=0.01), range(4))

    stopped = seeded_unet()
    optimizer = MuonAdamW(stopped.parameters(), weight_decay=0.01)
    take_steps(stopped, optimizer, range(2))
    resumed = seeded_unet()
    resumed.load_state_dict(stopped.state_dict())
    loaded = MuonAdamW(resumed.parameters(), weight_decay=0.01)
    loaded.load_state_dict(optimizer.state_dict())
    take_steps(resumed, loaded, range(2, 4))

    for one, other in zip(through.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


def test_weights_that_were_moved_in_memory_are_trained_where_they_are():
    unet = seeded_unet()
    optimizer = MuonAdamW(unet.parameters(), weight_decay=0.0)
    for weight in unet.parameters():
        weight.data = weight.data.clone()  # as DistributedDataParallel does
    before = [weight.detach().clone() for weight in unet.parameters()]

    take_steps(unet, optimizer, range(1))

    assert not any(map(torch.equal, before, unet.parameters()))


def test_a_weight_that_cannot_be_seen_as_a_matrix_is_refused():
    with pytest.raises(ValueError, match="channels last"):
        MuonAdamW(create_unet("tiny").parameters(), weight_decay=0.0)
