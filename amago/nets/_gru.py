"""torch's GRU over whole sequences, faster on CPU.

``nn.GRU`` spends its time there on the overhead of many small operations a step, most of all in the
backward pass, where every step also adds to the gradients of all weights. Here a step of the backward
pass is three operations: everything that does not depend on the next step's gradient is computed for all
steps at once, and so are the weights' gradients. Numbers and parameters are those of ``nn.GRU``.

Shapes: L timesteps, B sequences, H = width of the state. Gates in torch's order: reset, update, new.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amago.nets._stacked import loop_over_stack

#: Numbers of one kind (timesteps times batch times width) that a stretch of the backward pass prepares.
CHUNK = 2**16

# Operators of their own, so that a compiler takes them as they are instead of unrolling the loops.


@torch.library.custom_op("amago::gru_layer", mutates_args=())
def gru_layer(x: Tensor, weight: Tensor, bias_n: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One recurrent layer from a zero state, given its projected inputs.

    ``r, z = sigmoid(x_rz + h W_rz^T)``, ``n = tanh(x_n + r (h W_n^T + b_n))``, ``h' = n + z (h - n)``.

    Args:
        x: (L, B, 3H), inputs times their weights plus biases (of both kinds for r and z, the input's own
            for n).
        weight: (3H, H), of the state.
        bias_n: (H,), of the state in the new gate.

    Returns:
        All states (L, B, H), and for the backward pass: r, z and what the state adds to the new gate
        (L, B, 3H), and n (L, B, H).
    """
    length, batch, width = x.shape[0], x.shape[1], weight.shape[1]
    # becomes in place what its name says, from the inputs' part
    gates = torch.cat([x[..., : 2 * width], bias_n.expand(length, batch, width)], dim=-1)
    new, states = x.new_empty(length, batch, width), x.new_empty(length, batch, width)
    transposed = weight.t()
    per_step = zip(
        gates.unbind(0),
        gates[..., : 2 * width].unbind(0),
        gates[..., :width].unbind(0),
        gates[..., width : 2 * width].unbind(0),
        gates[..., 2 * width :].unbind(0),
        x[..., 2 * width :].unbind(0),
        new.unbind(0),
        states.unbind(0),
        strict=True,
    )
    h = x.new_zeros(batch, width)
    for all_t, rz, r, z, from_state, x_n, n, h_next in per_step:
        all_t.addmm_(h, transposed)
        rz.sigmoid_()
        torch.addcmul(x_n, r, from_state, out=n)
        n.tanh_()
        torch.lerp(n, h, z, out=h_next)
        h = h_next
    return states, gates, new


@torch.library.custom_op("amago::gru_layer_backward", mutates_args=())
def gru_layer_backward(
    grad: Tensor, states: Tensor, gates: Tensor, new: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of ``x``, ``weight`` and ``bias_n`` from that of the states (L, B, H)."""
    length, batch, width = grad.shape
    before = torch.cat([torch.zeros_like(states[:1]), states[:-1]])
    d_gates = gates.new_empty(length, batch, 3, width)
    d_x = torch.empty_like(gates)
    later = torch.zeros_like(before[0])
    # a stretch of timesteps at a time, so that what is prepared for it stays in the processor's cache
    chunk = max(1, CHUNK // (batch * width))
    parts = zip(*(m.split(chunk) for m in (grad, gates, new, before, d_gates, d_x)), strict=True)
    for grad_c, gates_c, new_c, before_c, d_gates_c, d_x_c in reversed(list(parts)):
        r, z, from_state = gates_c.split(width, dim=-1)
        # d(gate before its nonlinearity) / d(state): (T, B, 3, H), and of the inputs' part of n
        factors = torch.empty_like(d_gates_c)
        to_new = (1.0 - z).mul_(1.0 - new_c * new_c)
        torch.mul(to_new, r, out=factors[:, :, 2])
        torch.mul(factors[:, :, 2], (1.0 - r).mul_(from_state), out=factors[:, :, 0])
        torch.mul((before_c - new_c).mul_(z), 1.0 - z, out=factors[:, :, 1])
        d_states = grad_c.clone(memory_format=torch.contiguous_format)
        d_states[-1] += later
        rows, wide_rows, z_rows = d_states.unbind(0), d_states.unsqueeze(2).unbind(0), z.unbind(0)
        factor_rows, gate_rows = factors.unbind(0), d_gates_c.unbind(0)
        flat_rows = d_gates_c.view(-1, batch, 3 * width).unbind(0)
        for t in range(len(rows) - 1, 0, -1):
            torch.mul(wide_rows[t], factor_rows[t], out=gate_rows[t])
            rows[t - 1].addcmul_(rows[t], z_rows[t]).addmm_(flat_rows[t], weight)
        torch.mul(wide_rows[0], factor_rows[0], out=gate_rows[0])
        later = torch.addmm(rows[0] * z_rows[0], flat_rows[0], weight)
        d_x_c[..., : 2 * width] = d_gates_c[:, :, :2].flatten(2)
        torch.mul(d_states, to_new, out=d_x_c[..., 2 * width :])
    flat = d_gates.view(length * batch, 3 * width)
    # the first state is zero, so its step adds nothing to the weights' gradient
    d_weight = flat[batch:].t() @ states[:-1].flatten(0, 1)
    return d_x, d_weight, flat[:, 2 * width :].sum(dim=0)


@gru_layer.register_fake
def _(x: Tensor, weight: Tensor, bias_n: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    state = x.new_empty(*x.shape[:2], weight.shape[1])
    return state, torch.empty_like(x, memory_format=torch.contiguous_format), torch.empty_like(state)


@gru_layer_backward.register_fake
def _(
    grad: Tensor, states: Tensor, gates: Tensor, new: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(gates), torch.empty_like(weight), weight.new_empty(weight.shape[1])


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.save_for_backward(*output, inputs[1])


def _backward(ctx: Any, grad: Tensor, grad_gates: Tensor, grad_new: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    # gates and new are not for use outside, so nothing asks for their gradients
    return gru_layer_backward(grad, *ctx.saved_tensors)


gru_layer.register_autograd(_backward, setup_context=_keep)
loop_over_stack(gru_layer)
loop_over_stack(gru_layer_backward)


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
        x = gru_layer(F.linear(x, w_x, bias), w_h, b_h[2 * width :])[0]
    return x.transpose(0, 1)
