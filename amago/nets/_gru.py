"""torch's GRU over whole sequences, several times faster on CPU.

``nn.GRU`` spends its time there on the overhead of many small operations a step, most of all in the
backward pass, where every step also adds to the gradients of all weights. Here a step of the backward
pass is three operations: everything that does not depend on the next step's gradient is computed for all
steps at once, and so are the weights' gradients. Numbers and parameters are those of ``nn.GRU``.

Shapes: L timesteps, B sequences, H = width of the state. Gates in torch's order: reset, update, new.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class GRULayer(torch.autograd.Function):
    """One recurrent layer from a zero state, given its projected inputs.

    With ``[r, z, n]`` the gates: ``r, z = sigmoid(x + h W^T)``, ``n = tanh(x_n + r (h W_n^T + b_n))``,
    ``h' = n + z (h - n)``.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias_n: Tensor) -> Tensor:
        """All states.

        Args:
            x: (L, B, 3H), inputs times their weights plus biases (of both kinds for r and z, the
                input's own for n).
            weight: (3H, H), of the state.
            bias_n: (H,), of the state in the new gate.

        Returns:
            (L, B, H).
        """
        length, batch, width = x.shape[0], x.shape[1], weight.shape[1]
        # Becomes in place: gates r and z, and what the state adds to the new gate.
        gates = torch.cat([x[..., : 2 * width], bias_n.expand(length, batch, width)], dim=-1)
        new = torch.empty_like(x[..., :width], memory_format=torch.contiguous_format)
        states = new.new_zeros(length + 1, batch, width)
        transposed = weight.t()
        per_step = zip(
            gates.unbind(0),
            gates[..., : 2 * width].unbind(0),
            gates[..., :width].unbind(0),
            gates[..., width : 2 * width].unbind(0),
            gates[..., 2 * width :].unbind(0),
            x[..., 2 * width :].unbind(0),
            new.unbind(0),
            states[1:].unbind(0),
            strict=True,
        )
        h = states[0]
        for all_t, rz, r, z, from_state, x_n, n, h_next in per_step:
            all_t.addmm_(h, transposed)
            rz.sigmoid_()
            torch.addcmul(x_n, r, from_state, out=n)
            n.tanh_()
            torch.lerp(n, h, z, out=h_next)
            h = h_next
        ctx.save_for_backward(gates, new, states, weight)
        return states[1:]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of the three inputs."""
        gates, new, states, weight = ctx.saved_tensors
        length, batch, width = grad.shape
        r, z, from_state = gates.split(width, dim=-1)
        # d(gate before its nonlinearity) / d(state), for all steps: (L, B, 3, H)
        to_new = (1.0 - z) * (1.0 - new.square())
        factors = torch.stack(
            [to_new * from_state * r * (1.0 - r), (states[:-1] - new) * z * (1.0 - z), to_new * r], dim=2
        )
        d_states = grad.clone(memory_format=torch.contiguous_format)
        d_gates = torch.empty_like(factors)
        flat = d_gates.view(length, batch, 3 * width)
        rows, flat_rows = d_states.unbind(0), flat.unbind(0)
        wide_rows, factor_rows = d_states.unsqueeze(2).unbind(0), factors.unbind(0)
        gate_rows, z_rows = d_gates.unbind(0), z.unbind(0)
        for t in range(length - 1, 0, -1):
            torch.mul(wide_rows[t], factor_rows[t], out=gate_rows[t])
            rows[t - 1].addcmul_(rows[t], z_rows[t]).addmm_(flat_rows[t], weight)
        torch.mul(wide_rows[0], factor_rows[0], out=gate_rows[0])
        # The first state is zero, so its step adds nothing to the weights' gradient.
        d_weight = flat[1:].flatten(0, 1).t() @ states[1:-1].flatten(0, 1)
        d_bias_n = flat[..., 2 * width :].sum(dim=(0, 1))
        d_x = torch.cat([flat[..., : 2 * width], d_states * to_new], dim=-1)
        return d_x, d_weight, d_bias_n


def gru_forward(rnn: nn.GRU, seq: Tensor) -> Tensor:
    """``rnn(seq)[0]`` from a zero state, by the faster way where it is one.

    Args:
        rnn: one direction, with biases, batch first, without dropout.
        seq: (B, L, inputs).

    Returns:
        (B, L, H).
    """
    if seq.device.type != "cpu" or torch.is_autocast_enabled("cpu") or seq.dtype != rnn.weight_hh_l0.dtype:
        return rnn(seq)[0]
    width = rnn.hidden_size
    x = seq.transpose(0, 1)
    for i in range(rnn.num_layers):
        w_x, w_h, b_x, b_h = (
            getattr(rnn, f"{name}_l{i}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        bias = b_x + torch.cat([b_h[: 2 * width], torch.zeros_like(b_h[2 * width :])])
        x = GRULayer.apply(torch.nn.functional.linear(x, w_x, bias), w_h, b_h[2 * width :])
    return x.transpose(0, 1)
