"""One gradient update: loss, backward, clip, step, targets."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch

from amago.errors import ConfigurationError, TrainingDiverged
from amago.loading import Batch
from amago.parallel import average_gradients, mean_over_processes

_PRECISIONS = {"no": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class Updater:
    """Applies a policy's loss.

    Args:
        policy: an agent: ``policy(batch, log_step)`` is its loss.
        optimizer: over ``policy.trainable_params``; each group keeps its own rate, which warms up. None where
            nothing is to be learned.
        lr_warmup_steps: optimiser steps over which the rate rises linearly.
        grad_clip: largest global gradient norm.
        batches_per_update: batches whose gradients are averaged into one step.
        mixed_precision: ``no`` or ``bf16``.
        compile_mode: a ``torch.compile`` mode, or ``None``.
    """

    def __init__(
        self,
        policy: Any,
        optimizer: torch.optim.Optimizer | None,
        lr_warmup_steps: int,
        grad_clip: float,
        batches_per_update: int,
        mixed_precision: str,
        compile_mode: str | None,
        device: torch.device,
    ) -> None:
        if mixed_precision not in ("no", "bf16"):
            raise ConfigurationError(
                f"Experiment.mixed_precision must be 'no' or 'bf16', got {mixed_precision!r} (fp16 needs loss scaling)"
            )
        self.policy, self.optimizer, self.device = policy, optimizer, device
        self.parameters = list(policy.trainable_params)
        self.rates = [] if optimizer is None else [float(group["lr"]) for group in optimizer.param_groups]
        self.lr_warmup_steps = lr_warmup_steps
        self.grad_clip, self.batches_per_update = grad_clip, batches_per_update
        self.autocast_dtype = _PRECISIONS[mixed_precision]
        self._loss: Callable[..., torch.Tensor] = (
            torch.compile(policy, mode=compile_mode) if compile_mode else policy
        )
        self._pending = 0

    def warmth(self, optimizer_steps: int) -> float:
        """Share of the full learning rates for the next step, after ``optimizer_steps`` steps were made."""
        if self.lr_warmup_steps <= 0:
            return 1.0
        return min(1.0, (optimizer_steps + 1) / self.lr_warmup_steps)

    def step(self, batch: Batch, log_step: bool, gradient_steps: int) -> dict[str, torch.Tensor | float]:
        """Accumulate one batch; on every ``batches_per_update``-th, update the weights.

        Args:
            batch: on the policy's device.
            log_step: whether to compute metrics.
            gradient_steps: batches seen before this one (every batch counts).

        Returns:
            Metrics, empty when ``log_step`` is false.

        Raises:
            TrainingDiverged: a loss or gradient that is not finite; the weights are untouched.
            ConfigurationError: there is no optimizer.
        """
        if self.optimizer is None:
            raise ConfigurationError("nothing can be learned: Experiment.init_optimizer returned None")
        autocast = (
            torch.autocast(self.device.type, self.autocast_dtype)
            if self.autocast_dtype is not None
            else contextlib.nullcontext()
        )
        with autocast:
            loss = self._loss(batch, log_step)
        (loss / self.batches_per_update if self.batches_per_update > 1 else loss).backward()
        self._pending += 1
        metrics: dict[str, Any] = dict(self.policy.update_info) if log_step else {}
        if self._pending < self.batches_per_update:
            return metrics
        average_gradients(self.parameters)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.grad_clip, foreach=True)
        if not torch.isfinite(norm):
            raise TrainingDiverged(
                f"the loss or its gradient is not finite at gradient step {gradient_steps + 1} "
                f"(loss {float(loss.detach()):g}, gradient norm {float(norm):g}); lower Experiment.learning_rate or "
                "Agent.reward_multiplier, or look for extreme rewards; the last checkpoint is intact"
            )
        warmth = self.warmth(gradient_steps // self.batches_per_update)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * warmth
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._pending = 0
        self.policy.soft_sync_targets()
        if log_step:
            metrics |= {
                "loss": mean_over_processes(loss.detach()),
                "grad_norm": norm.detach(),
                "learning_rate": self.rates[0] * warmth,
            }
        return metrics
