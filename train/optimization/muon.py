"""The optimizer: Muon for matrices and convolutions, AdamW for the rest."""

from collections.abc import Iterable

import torch
from torch import nn


# Matrices of so few rows or columns, such as the last convolution, which gives two planes, have little to balance.
_SMALL_SIDE = 8


class MuonAdamW(torch.optim.Optimizer):
    """
    `torch.optim.Muon`, which takes matrices only, for linear layers and convolutions; AdamW for all that is left:
    biases, norms, and layers with few inputs or outputs, such as the last.

    A convolution is the matrix `(out_channels, height * width * in_channels)`: a view of its weight where that lies in
    memory channels last. Muon brings all singular values of an update near 1, so that directions which the gradient
    rarely shows are learned too (Jordan et al. 2024); here its updates are scaled to the size of AdamW's, so that both
    learning rates mean the same (Liu et al. 2025, "Muon is scalable for LLM training"). That costs the same for every
    update, whatever its batch: with preset `medium` as much as 40 crops of 64 or 10 of 128, so use large batches.

    Args:
        parameters (iterable of `nn.Parameter`): On the device they will be trained on, four-dimensional ones in memory
            channels last.
        weight_decay (`float`): Decoupled.
        pretrained (iterable of `nn.Parameter`, *optional*): AdamW's too, with a learning rate of their own: to bring
            all singular values of their updates near 1 would undo what they have learned.

    Attributes: `param_groups`: Muon's, AdamW's and the pretrained parameters. Set their `lr` before a step.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], weight_decay: float, pretrained: Iterable[nn.Parameter] = ()
    ):
        groups = ([], [], list(pretrained))
        for parameter in parameters:
            groups[parameter.ndim < 2 or min(parameter.shape[:2]) <= _SMALL_SIDE].append(parameter)
        super().__init__([{"params": group, "lr": 0.0} for group in groups], {})
        self.matrices = [nn.Parameter(_as_matrix(weight.data)) for weight in groups[0]]
        self.muon = torch.optim.Muon(self.matrices, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
        # With AdamW's usual 0.999 a rare large gradient in bfloat16 can end a run.
        self.adamw = torch.optim.AdamW(
            [{"params": group} for group in groups[1:]], betas=(0.9, 0.99), weight_decay=weight_decay, fused=True
        )

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        weights = self.param_groups[0]["params"]
        for weight, matrix in zip(weights, self.matrices, strict=True):
            matrix.data = _as_matrix(weight.data)  # seen anew: DistributedDataParallel moves the weights
            matrix.grad = None if weight.grad is None else _as_matrix(weight.grad)
        inner = [*self.muon.param_groups, *self.adamw.param_groups]
        for group, inner_group in zip(self.param_groups, inner, strict=True):
            inner_group["lr"] = group["lr"]
        self.muon.step()
        self.adamw.step()
        self.muon.zero_grad()

    def state_dict(self) -> dict:
        return {"muon": self.muon.state_dict(), "adamw": self.adamw.state_dict()}

    def load_state_dict(self, state_dict: dict) -> None:
        if "muon" not in state_dict:
            raise ValueError(
                "The checkpoint was written with AdamW alone: start in another `output_dir`, with the pipeline of that"
                " run as `initial_pipeline`."
            )
        for optimizer, state in ((self.muon, state_dict["muon"]), (self.adamw, state_dict["adamw"])):
            weight_decay = optimizer.param_groups[0]["weight_decay"]  # that of the present command holds
            optimizer.load_state_dict(state)
            for group in optimizer.param_groups:
                group["weight_decay"] = weight_decay


def _as_matrix(weight: torch.Tensor) -> torch.Tensor:
    if weight.ndim == 2:
        return weight
    matrix = weight.permute(0, 2, 3, 1).flatten(start_dim=1)
    if matrix.data_ptr() != weight.data_ptr():
        raise ValueError(f"A weight of shape {tuple(weight.shape)} must lie in memory channels last.")
    return matrix
