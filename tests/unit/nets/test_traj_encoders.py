"""Trajectory encoders without attention, the registry, and the GRU's faster way on CPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import amago
from amago.errors import ConfigurationError
from amago.nets import _gru
from amago.nets import traj_encoders as te
from tests.unit.nets.encoders import (
    assert_close,
    assert_rollout_is_forward,
    load_weights,
    reference,
    scramble,
    times,
)


def test_gru_figures() -> None:
    """Parameter names and outputs are the reference's."""
    arrays = reference("gru")
    encoder = te.GRUTrajEncoder(10, 12, d_hidden=24, d_output=20)
    load_weights(encoder, arrays)
    out, state = encoder.eval()(torch.tensor(arrays["seq"]), times(3, 12))
    assert state is None
    assert_close(out, arrays["out"])


def test_ff_figures() -> None:
    """Parameter names and outputs are the reference's; d_ff is four times d_model by default."""
    arrays = reference("ff")
    encoder = te.FFTrajEncoder(10, 12, d_model=24, n_layers=2)
    load_weights(encoder, arrays)
    out, _ = encoder.eval()(torch.tensor(arrays["seq"]), times(3, 12))
    assert_close(out, arrays["out"])


@pytest.mark.parametrize("length", [1, 2, 17])
@pytest.mark.parametrize("layers", [1, 3])
def test_fast_gru_is_torchs(length: int, layers: int) -> None:
    """Outputs and every gradient of the hand-written backward equal nn.GRU's in float64."""
    torch.manual_seed(0)
    rnn = nn.GRU(5, 7, num_layers=layers, batch_first=True).double()
    seq = torch.randn(3, length, 5, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, length, 7, dtype=torch.float64)
    results = []
    for out in (rnn(seq)[0], _gru.gru_forward(rnn, seq)):
        results.append([out, *torch.autograd.grad((out * weight).sum(), [seq, *rnn.parameters()])])
    for theirs, ours in zip(*results, strict=True):
        assert torch.allclose(theirs, ours, rtol=1e-12, atol=1e-13)


def test_fast_gru_float32() -> None:
    """In float32 over a long sequence it stays within 1e-5 of nn.GRU."""
    torch.manual_seed(0)
    rnn = nn.GRU(64, 64, num_layers=2, batch_first=True)
    seq = torch.randn(4, 200, 64)
    results = []
    for out in (rnn(seq)[0], _gru.gru_forward(rnn, seq)):
        results.append([out, *torch.autograd.grad(out.square().sum(), list(rnn.parameters()))])
    for theirs, ours in zip(*results, strict=True):
        assert_close(ours, theirs.detach())


def test_encoder_uses_the_fast_gru(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole sequences on CPU take the faster way; half precision under autocast takes torch's."""
    calls = []
    real = _gru.gru_layer
    monkeypatch.setattr(_gru, "gru_layer", lambda *a: calls.append(1) or real(*a))
    encoder = te.GRUTrajEncoder(5, 12, d_hidden=8, d_output=8)
    seq = torch.randn(2, 4, 5)
    exact, _ = encoder(seq, times(2, 4))
    assert len(calls) == 2
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half, _ = encoder(seq, times(2, 4))
    assert len(calls) == 2
    assert (half.float() - exact).abs().max() < 0.1


@pytest.mark.parametrize("name", ["identity", "ff", "rnn", "mamba", "transformer"])
def test_rollout_is_one_forward(name: str) -> None:
    """Steps with a hidden state, actors at different times and resets, equal whole episodes."""
    torch.manual_seed(0)
    encoder = te.get_traj_encoder_cls(name)(7, 100)
    if name != "mamba":  # its step sizes are exponentials of weights: it starts where it should
        scramble(encoder)
    assert_rollout_is_forward(encoder.eval(), encoder, 7)


@pytest.mark.parametrize("name", ["identity", "ff", "rnn", "mamba", "transformer"])
def test_causal(name: str) -> None:
    """Changing later inputs changes no earlier output: padding at the end is harmless."""
    torch.manual_seed(0)
    encoder = te.get_traj_encoder_cls(name)(7, 100).eval()
    a = torch.randn(2, 20, 7)
    b = torch.cat([a[:, :11], 100.0 * torch.randn(2, 9, 7)], dim=1)
    out_a, out_b = encoder(a, times(2, 20))[0], encoder(b, times(2, 20))[0]
    assert out_a.shape == (2, 20, encoder.emb_dim)
    assert (out_a[:, :11] - out_b[:, :11]).abs().max() < 1e-5
    assert (out_a[:, 11:] - out_b[:, 11:]).abs().max() > 1e-2


@pytest.mark.parametrize("name", ["rnn", "mamba", "transformer"])
def test_several_steps_at_once(name: str) -> None:
    """A hidden state can take in a stretch of timesteps, and go on from there."""
    torch.manual_seed(0)
    encoder = te.get_traj_encoder_cls(name)(7, 100).eval()
    seq = torch.randn(2, 9, 7)
    with torch.no_grad():
        first, state = encoder(seq[:, :5], times(2, 5), hidden_state=encoder.init_hidden_state(2, "cpu"))
        second, _ = encoder(seq[:, 5:], times(2, 4, 5), hidden_state=state)
        whole, _ = encoder(seq, times(2, 9))
    assert (torch.cat([first, second], 1) - whole).abs().max() < 1e-5


def test_registry() -> None:
    """Short names are fixed; a user's own is added; unknown ones get a suggestion."""
    assert set(te.list_registered_traj_encoders()) >= {"identity", "ff", "rnn", "transformer", "mamba"}
    assert amago.TrajEncoder is te.TrajEncoder
    with pytest.raises(ConfigurationError, match="did you mean transformer"):
        te.get_traj_encoder_cls("transfomer")

    class Last(te.TrajEncoder):
        @property
        def emb_dim(self) -> int:
            return self.tstep_dim

        def forward(
            self, seq: Tensor, time_idxs: Tensor, hidden_state: Any = None, log_dict: Any = None
        ) -> Any:
            return seq, hidden_state

    name = "test_traj_encoders_last"
    te.register_traj_encoder(name)(Last)
    assert te.get_traj_encoder_cls(name) is Last
    own = Last(3, 5)
    assert own.max_seq_len == 5 and own.init_hidden_state(2, "cpu") is None
    assert own.reset_hidden_state("anything", torch.tensor([True])) == "anything"


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: te.GRUTrajEncoder(3, 4, n_layers=0), "GRUTrajEncoder.n_layers is 0"),
        (lambda: te.MambaTrajEncoder(3, 4, d_state=0), "MambaTrajEncoder.d_state is 0"),
        (lambda: te.FFTrajEncoder(3, 4, d_model=0), "FFTrajEncoder.d_model is 0"),
    ],
)
def test_impossible_sizes(build: Any, message: str) -> None:
    """One line names the setting."""
    with pytest.raises(ConfigurationError, match=message):
        build()


def _small(name: str) -> Any:
    sizes = {"d_hidden": 8, "d_output": 8} if name == "rnn" else {"d_model": 16}
    return te.get_traj_encoder_cls(name)(7, 100, n_layers=1, **sizes)  # type: ignore[call-arg]


@pytest.mark.parametrize("name", ["rnn", "mamba", "transformer"])
def test_stacked_seeds(name: str) -> None:
    """Several copies' weights in one vmapped call give each copy's outputs and gradients."""
    torch.manual_seed(0)
    copies = [_small(name).eval() for _ in range(3)]
    params, buffers = torch.func.stack_module_state(copies)
    seq = torch.randn(2, 6, 7)
    out = torch.func.vmap(
        lambda p, b: torch.func.functional_call(copies[0], (p, b), (seq, times(2, 6)))[0],
        randomness="different",
    )(params, buffers)
    out.square().sum().backward()
    for i, copy in enumerate(copies):
        alone = copy(seq, times(2, 6))[0]
        assert (out[i] - alone).abs().max() < 1e-5
        alone.square().sum().backward()
        for key, p in copy.named_parameters():
            assert torch.allclose(params[key].grad[i], p.grad, rtol=1e-3, atol=1e-4), key


@pytest.mark.parametrize("name", ["mamba", "transformer"])
def test_traces_as_one_graph(name: str) -> None:
    """No branch on data, and the loops over timesteps are opaque to a compiler: few nodes at any length."""
    encoder = _small(name).train()
    sizes = []

    def count(graph: Any, inputs: Any) -> Any:
        sizes.append(len(graph.graph.nodes))
        return graph

    for length in (6, 60):
        torch._dynamo.reset()
        seq, when = torch.randn(2, length, 7), times(2, length)
        torch.compile(lambda x, t: encoder(x, t)[0].sum(), backend=count, fullgraph=True)(
            seq, when
        ).backward()
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize("width", [3, 5])
def test_fast_gru_in_stretches(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The backward pass joins stretches of timesteps, of any size, without a seam."""
    monkeypatch.setattr(_gru, "CHUNK", 3 * width * 4)
    test_fast_gru_is_torchs(17, width)


def test_ff_dropout() -> None:
    """Dropout is on the output, too, and in training only."""
    encoder = te.FFTrajEncoder(7, 10, d_model=64, dropout=0.5)
    seq = torch.randn(2, 5, 7)
    zeros = (encoder(seq, times(2, 5))[0] == 0).float().mean().item()
    assert 0.3 < zeros < 0.7
    assert (encoder.eval()(seq, times(2, 5))[0] != 0).all()
