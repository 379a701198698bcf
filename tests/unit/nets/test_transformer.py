"""The transformer: reference figures, spectral reparametrisation, attention kinds, windows, positions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gin
import pytest
import torch
from torch import Tensor

from amago.errors import ConfigurationError
from amago.nets import _attention
from amago.nets import transformer as tf
from amago.nets.traj_encoders import TformerTrajEncoder
from tests.unit.nets.encoders import (
    assert_close,
    assert_rollout_is_forward,
    load_weights,
    reference,
    scramble,
    times,
)

DIM, WIDTH, HEADS, CONTEXT = 7, 16, 4, 6

ATTENTION: dict[str, Callable[..., Any]] = {
    "vanilla": tf.VanillaAttention,
    "flash": tf.FlashAttention,
    "flash_window": lambda **kw: tf.FlashAttention(window_size=(3, 0), **kw),
    "vanilla_flex": tf.VanillaFlexAttention,
    "flex": lambda **kw: tf.FlexAttention(score_mod=_alibi, mask_mod=_every_other, **kw),
    "sliding": lambda **kw: tf.SlidingWindowFlexAttention(window_size=3, **kw),
    "sliding_zero": lambda **kw: tf.SlidingWindowFlexAttention(window_size=0, **kw),
    "sink": lambda **kw: tf.ClippedSlidingSinkAttention(window_size=2, sink_size=2, **kw),
    "sink_bias_clip": lambda **kw: tf.ClippedSlidingSinkAttention(
        window_size=2, sink_size=1, sink_bias=0.7, logit_clip=0.5, **kw
    ),
}


def _alibi(score: Tensor, b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
    return score - 0.3 * (h + 1) * (q - k)


def _every_other(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
    return (q - k) % 2 == 0


def _kind(build: Callable[..., Any]) -> type[tf.SelfAttention]:
    """A SelfAttention class that builds ``build(causal, dropout)``: the encoder wants a class."""

    class Kind(tf.SelfAttention):
        def __init__(self, causal: bool = True, dropout: float = 0.0) -> None:
            super().__init__(causal, dropout)
            self.inner = build(causal=causal, dropout=dropout)

        def forward(self, *args: Any, **kwargs: Any) -> Tensor:
            self.inner.context = self.context
            return self.inner(*args, **kwargs)

    return Kind


def _encoder(build: Callable[..., Any] = tf.FlashAttention, max_seq_len: int = CONTEXT, **kwargs: Any) -> Any:
    torch.manual_seed(0)
    sizes = {"d_model": WIDTH, "n_heads": HEADS, "d_ff": 32, "n_layers": 2, **kwargs}
    encoder = TformerTrajEncoder(DIM, max_seq_len, attention_type=_kind(build), **sizes)
    scramble(encoder)
    return encoder.eval()


@pytest.fixture(autouse=True)
def _fresh_gin() -> Iterator[None]:
    gin.clear_config()
    yield
    gin.clear_config()


# -- reference figures ---------------------------------------------------------------------------


@pytest.mark.parametrize("attention", [tf.FlashAttention, tf.VanillaAttention, tf.VanillaFlexAttention])
def test_reference_figures(attention: type[tf.SelfAttention]) -> None:
    """Names, layout of q, k, v, positions and norms are the reference's."""
    arrays = reference("transformer_fixed")
    encoder = TformerTrajEncoder(
        10, 12, d_model=32, n_heads=int(arrays["n_heads"]), d_ff=64, n_layers=2, attention_type=attention
    )
    load_weights(encoder, arrays)
    out, state = encoder.eval()(torch.tensor(arrays["seq"]), torch.tensor(arrays["time_idxs"]))
    assert state is None
    assert_close(out, arrays["out"])


def test_reference_figures_step_by_step() -> None:
    """The same figures come out of the cache, token by token, at offset time indices."""
    arrays = reference("transformer_fixed")
    encoder = TformerTrajEncoder(10, 12, d_model=32, n_heads=4, d_ff=64, n_layers=2)
    load_weights(encoder, arrays)
    seq, time_idxs = torch.tensor(arrays["seq"]), torch.tensor(arrays["time_idxs"])
    with torch.no_grad():
        out, state = encoder.eval()(seq, time_idxs, hidden_state=encoder.init_hidden_state(3, "cpu"))
    assert_close(out, arrays["out"])
    assert state.cache_seqlens.tolist() == [12, 12, 12]


def test_sigma_reparam_training_figures() -> None:
    """One power iteration before the quotient, constant vectors, gradient through the weight in both places."""
    arrays = reference("sigma_reparam_training")
    layer = tf.SigmaReparam(6, 5)
    load_weights(layer, arrays)
    x = torch.tensor(arrays["x"])
    out = layer(x)
    out.square().sum().backward()
    assert_close(out, arrays["out_train"])
    assert_close(layer.u, arrays["u_after"])
    assert_close(layer.v, arrays["v_after"])
    assert_close(layer.weight.grad, arrays["grad_weight"])
    assert_close(layer.gamma.grad, arrays["grad_gamma"])
    layer.eval()
    for _ in range(2):
        assert_close(layer(x), arrays["out_eval_after"])


def test_sigma_reparam_start() -> None:
    """At the start the spectral norm is gamma = 1, vectors are contiguous, fast_init's are of length 1."""
    layer = tf.SigmaReparam(40, 30).eval()
    assert torch.linalg.matrix_norm(layer.effective_weight(), 2).item() == pytest.approx(1.0, abs=1e-5)
    assert layer.weight.std().item() == pytest.approx(0.02, rel=0.1)
    fast = tf.SigmaReparam(40, 30, bias=False, fast_init=True)
    assert fast.bias is None
    for part in (layer, fast):
        assert part.u.is_contiguous() and part.v.is_contiguous() and part.u.untyped_storage().size() == 30 * 4
        assert part.u.norm().item() == pytest.approx(1.0) and part.v.norm().item() == pytest.approx(1.0)
    for _ in range(200):
        fast(torch.zeros(1, 40))
    assert torch.linalg.matrix_norm(fast.eval().effective_weight(), 2).item() == pytest.approx(1.0, abs=1e-3)


def test_sigma_reparam_twice_before_backward() -> None:
    """Two training forwards in one graph: the second's in-place update does not spoil the first's backward."""
    layer = tf.SigmaReparam(6, 5)
    (layer(torch.ones(2, 6)).sum() + layer(torch.ones(2, 6)).sum()).backward()
    assert torch.isfinite(layer.weight.grad).all()


def test_update_runs_functionally() -> None:
    """A training forward changes nothing but registered buffers, so functional_call leaves the module alone."""
    encoder = _encoder(dropout_ff=0.0, dropout_emb=0.0).train()
    state = {k: v.detach().clone() for k, v in encoder.state_dict().items()}
    copy = {k: v.clone() for k, v in state.items()}
    seq = torch.randn(2, 5, DIM)
    torch.func.functional_call(encoder, copy, (seq, times(2, 5)))
    assert all(torch.equal(v, state[k]) for k, v in encoder.state_dict().items())
    changed = {k.rsplit(".", 1)[1] for k in state if not torch.equal(copy[k], state[k])}
    assert changed == {"u", "v"}


# -- kinds of attention --------------------------------------------------------------------------


def _by_hand(
    qkv: Tensor, visible: Callable[[int, int], bool], edit: Callable[[Tensor, int, int], Tensor]
) -> Tensor:
    """Attention with Python loops over positions."""
    out = torch.zeros_like(qkv[:, :, 0])
    q, k, v = qkv.unbind(2)
    for i in range(qkv.shape[1]):
        keys = [j for j in range(qkv.shape[1]) if visible(i, j)]
        scores = [edit((q[:, i] * k[:, j]).sum(-1) / q.shape[-1] ** 0.5, i, j) for j in keys]
        weights = torch.softmax(torch.stack(scores), dim=0)
        out[:, i] = sum(w[..., None] * v[:, j] for w, j in zip(weights, keys, strict=True))
    return out


HEAD_SLOPE = torch.tensor([0.3, 0.6])
RULES: dict[str, tuple[Callable[[int, int], bool], Callable[[Tensor, int, int], Tensor]]] = {
    "vanilla": (lambda i, j: j <= i, lambda s, i, j: s),
    "flash": (lambda i, j: j <= i, lambda s, i, j: s),
    "flash_window": (lambda i, j: 0 <= i - j <= 3, lambda s, i, j: s),
    "vanilla_flex": (lambda i, j: j <= i, lambda s, i, j: s),
    "flex": (lambda i, j: j <= i and (i - j) % 2 == 0, lambda s, i, j: s - HEAD_SLOPE * (i - j)),
    "sliding": (lambda i, j: 0 <= i - j <= 3, lambda s, i, j: s),
    "sliding_zero": (lambda i, j: i == j, lambda s, i, j: s),
    "sink": (lambda i, j: j <= i and (i - j <= 2 or j < 2), lambda s, i, j: s),
    "sink_bias_clip": (
        lambda i, j: j <= i and (i - j <= 2 or j < 1),
        lambda s, i, j: (s + 0.7 * (j < 1)).clamp(-0.5, 0.5),
    ),
}


@pytest.mark.parametrize("kind", ATTENTION)
@pytest.mark.parametrize("stretch", [2, 64])
def test_attention_is_its_formula(kind: str, stretch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each kind against loops over positions, and its gradient against theirs; in stretches or at once."""
    monkeypatch.setattr(_attention, "MIN_STRETCH", stretch)
    torch.manual_seed(0)
    qkv = torch.randn(2, 9, 3, 2, 4, requires_grad=True)
    out, expected = ATTENTION[kind]()(qkv), _by_hand(qkv, *RULES[kind])
    assert_close(out, expected.detach(), 1e-5)
    weight = torch.randn_like(out)
    ours, theirs = (torch.autograd.grad((o * weight).sum(), qkv)[0] for o in (out, expected))
    assert_close(ours, theirs, 1e-5)


@pytest.mark.parametrize("kind", ATTENTION)
def test_gradient_is_exactly_zero_outside(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a query may not see gets a gradient of exactly 0, what it may see does not."""
    monkeypatch.setattr(_attention, "MIN_STRETCH", 5)
    torch.manual_seed(0)
    qkv = torch.randn(1, 9, 3, 2, 4)
    visible, _ = RULES[kind]
    for i in (0, 4, 8):
        x = qkv.clone().requires_grad_()
        ATTENTION[kind]()(x)[:, i].square().sum().backward()
        assert x.grad is not None
        for j in range(9):
            assert (x.grad[:, j, 2].abs().sum() > 0) == visible(i, j), (i, j)


@pytest.mark.parametrize("kind", ["flash_window", "sliding", "vanilla"])
def test_not_causal(kind: str) -> None:
    """Without causality windows are to both sides (flash: as given)."""
    torch.manual_seed(0)
    qkv = torch.randn(2, 9, 3, 2, 4)
    rule = {
        "flash_window": lambda i, j: 0 <= i - j <= 3,
        "sliding": lambda i, j: abs(i - j) <= 3,
        "vanilla": lambda i, j: True,
    }[kind]
    assert_close(ATTENTION[kind](causal=False)(qkv), _by_hand(qkv, rule, lambda s, i, j: s))


def test_query_that_sees_nothing() -> None:
    """A mask that hides everything gives zeros, not NaN, with and without edited scores."""
    qkv = torch.randn(1, 4, 3, 2, 4, requires_grad=True)
    for score_mod in (None, lambda s, b, h, q, k: 2.0 * s):
        attention = tf.FlexAttention(score_mod, lambda b, h, q, k: (q > 1) & (k >= 0))
        out = attention(qkv)
        assert (out[:, :2] == 0).all() and (out[:, 2:] != 0).all()
        assert torch.isfinite(torch.autograd.grad(out.sum(), qkv)[0]).all()


@pytest.mark.parametrize("kind", ["vanilla", "flash", "sliding", "sink_bias_clip"])
def test_attention_dropout(kind: str) -> None:
    """Weights are dropped in training only, and kept in expectation."""
    torch.manual_seed(0)
    attention = ATTENTION[kind](dropout=0.4)
    qkv = torch.randn(1, 5, 3, 2, 4)
    qkv[:, :, 2] = 1.0
    out = torch.stack([attention(qkv) for _ in range(300)])
    assert out.std(0).max() > 0.1
    assert out.mean().item() == pytest.approx(1.0, abs=0.05)
    assert_close(attention.eval()(qkv), torch.ones(1, 5, 2, 4))


# -- cached rollouts -----------------------------------------------------------------------------


def _last_keys(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
    return q - k < CONTEXT


def _limited(kind: str) -> Callable[..., Any]:
    """The same attention for whole episodes, where a query sees only its last CONTEXT keys."""

    def build(**kwargs: Any) -> Any:
        inner = ATTENTION[kind](**kwargs)
        old = inner.mask_mod
        inner.mask_mod = lambda *at: _last_keys(*at) if old is None else _last_keys(*at) & old(*at)
        return inner

    return build


@pytest.mark.parametrize("kind", ATTENTION)
@pytest.mark.parametrize("pos_emb", ["fixed", "rope"])
def test_rollout_is_one_forward_over_the_episode(kind: str, pos_emb: str) -> None:
    """Actors at different steps, across resets, past max_seq_len, in every layer."""
    encoder = _encoder(ATTENTION[kind], pos_emb=pos_emb)
    whole = _encoder(_limited(kind), max_seq_len=1000, pos_emb=pos_emb)
    assert_rollout_is_forward(encoder, whole, DIM)


@pytest.mark.parametrize("kind", ATTENTION)
@pytest.mark.parametrize("stretch", [2, 64])
def test_long_sequences_keep_to_the_context(kind: str, stretch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The encoder's own forward is that of rollouts beyond max_seq_len + 1, and unlimited up to there."""
    monkeypatch.setattr(_attention, "MIN_STRETCH", stretch)
    encoder, free = _encoder(ATTENTION[kind]), _encoder(ATTENTION[kind], max_seq_len=1000)
    seq = torch.randn(2, 25, DIM)
    with torch.no_grad():
        stepped, _ = encoder(seq, times(2, 25), hidden_state=encoder.init_hidden_state(2, "cpu"))
        assert_close(encoder(seq, times(2, 25))[0], stepped)
        if "window" not in kind and "sliding" not in kind:
            assert (free(seq, times(2, 25))[0] - stepped)[:, CONTEXT:].abs().max() > 1e-2
        short = seq[:, : CONTEXT + 1], times(2, CONTEXT + 1)
        assert torch.equal(encoder(*short)[0], free(*short)[0])


def test_a_window_of_the_last_rows_is_something_else() -> None:
    """Deeper layers see further back than max_seq_len: the test above would notice a cut input."""
    encoder = _encoder()
    whole = _encoder(_limited("flash"), max_seq_len=1000)
    seq = torch.randn(1, 20, DIM)
    with torch.no_grad():
        last = whole(seq, times(1, 20))[0][:, -1]
        cut = encoder(seq[:, -CONTEXT:], times(1, CONTEXT, start=20 - CONTEXT))[0][:, -1]
    assert (last - cut).abs().max() > 1e-2


def test_other_actors_do_not_matter() -> None:
    """An actor's outputs are the same bits whatever the others do."""
    encoder = _encoder()
    a, b = torch.randn(2, 9, 1, DIM).unbind(0)
    runs = []
    for other in (b, -b):
        state = encoder.init_hidden_state(2, "cpu")
        outs = []
        for t in range(9):
            out, state = encoder(torch.stack([a[t], other[t]]), times(2, 1, t), hidden_state=state)
            outs.append(out[0])
        runs.append(torch.stack(outs).detach())
    assert torch.equal(*runs)


def test_early_steps_leave_out_empty_slots() -> None:
    """The prefix of the ring in use grows with the oldest actor, and shrinks when that one resets."""
    encoder = _encoder()
    state = encoder.init_hidden_state(2, "cpu")
    used = []
    with torch.no_grad():
        for t in range(CONTEXT + 2):
            used.append(state.open_slots())
            _, state = encoder(torch.randn(2, 1, DIM), times(2, 1, t), hidden_state=state)
            if t == 1:
                state = encoder.reset_hidden_state(state, torch.tensor([True, False]))
            if t == 2:
                state = encoder.reset_hidden_state(state, torch.tensor([False, True]))
    assert used == [1, 2, 3, 2, 3, 4, 5, 6]
    assert state.cache_seqlens.tolist() == [6, 5]


def test_users_own_attention() -> None:
    """A subclass with forward(qkv, key_cache, val_cache, cache_seqlens) alone works in both modes."""

    class Mean(tf.SelfAttention):
        def forward(
            self, qkv: Tensor, key_cache: Any = None, val_cache: Any = None, cache_seqlens: Any = None
        ) -> Tensor:
            if key_cache is None:
                count = torch.arange(1, qkv.shape[1] + 1)[:, None, None]
                return qkv[:, :, 2].cumsum(1) / count
            val_cache[torch.arange(len(qkv)), cache_seqlens % val_cache.shape[1]] = qkv[:, 0, 2]
            seen = torch.arange(val_cache.shape[1]) <= cache_seqlens[:, None]
            total = (val_cache * seen[..., None, None]).sum(1, keepdim=True)
            return total / seen.sum(1)[:, None, None, None]

    torch.manual_seed(0)
    encoder = TformerTrajEncoder(DIM, 100, d_model=WIDTH, n_heads=HEADS, d_ff=32, attention_type=Mean).eval()
    assert_rollout_is_forward(encoder, encoder, DIM)


# -- positions -----------------------------------------------------------------------------------


def test_fixed_positions() -> None:
    """Sines in even places, cosines in odd ones, of the time index that is given."""
    out = tf.FixedPosEmb(6)(torch.tensor([[[0], [3]], [[5], [1]]]))
    for row, t in ((out[0, 1], 3.0), (out[1, 0], 5.0)):
        for k in range(3):
            angle = torch.tensor(t * 10000.0 ** (-2 * k / 6))
            assert row[2 * k].item() == pytest.approx(angle.sin().item(), abs=1e-6)
            assert row[2 * k + 1].item() == pytest.approx(angle.cos().item(), abs=1e-6)


def test_rotary_positions() -> None:
    """Queries and keys turn in pairs (k, k + d / 2), values do not; scores depend on differences alone."""
    torch.manual_seed(0)
    rope = tf.RotaryPosEmb(4)
    qkv = torch.randn(1, 2, 3, 1, 4)
    turned = tf.rotate(qkv, rope(torch.tensor([[[7], [2]]])))
    assert torch.equal(turned[:, :, 2], qkv[:, :, 2])
    for k in range(2):
        angle = torch.tensor(7 * 10000.0 ** (-2 * k / 4))
        a, b = qkv[0, 0, 1, 0, k], qkv[0, 0, 1, 0, k + 2]
        assert turned[0, 0, 1, 0, k].item() == pytest.approx(
            (a * angle.cos() - b * angle.sin()).item(), abs=1e-5
        )
        assert turned[0, 0, 1, 0, k + 2].item() == pytest.approx(
            (b * angle.cos() + a * angle.sin()).item(), abs=1e-5
        )
    later = tf.rotate(qkv, rope(torch.tensor([[[107], [102]]])))
    scores = [(x[0, 0, 0, 0] * x[0, 1, 1, 0]).sum().item() for x in (turned, later)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)


def test_times_beyond_the_learnable_positions() -> None:
    """An episode longer than `max_time_idx` is said by the setting's name."""
    gin.parse_config("LearnablePosEmb.max_time_idx = 30")
    encoder = _encoder(pos_emb="learnable")
    with pytest.raises(ConfigurationError, match="max_time_idx is 30, but a time index is 34"):
        encoder(torch.zeros(1, 5, DIM), times(1, 5) + 30)


def test_learnable_positions() -> None:
    """The time index, not the row, picks the vector; its number is a required setting."""
    with pytest.raises(ConfigurationError, match=r"LearnablePosEmb\.max_time_idx.*must be configured"):
        _encoder(pos_emb="learnable")
    gin.parse_config("LearnablePosEmb.max_time_idx = 30")
    encoder = _encoder(pos_emb="learnable")
    table = encoder.tformer.position_embedding.embeddings.weight
    assert table.shape == (30, WIDTH)
    out = encoder.tformer.position_embedding(torch.tensor([[[29], [4]]]))
    assert torch.equal(out[0, 0], table[29]) and torch.equal(out[0, 1], table[4])
    assert_rollout_is_forward(
        encoder, _encoder(_limited("flash"), max_seq_len=1000, pos_emb="learnable"), DIM
    )


# -- settings ------------------------------------------------------------------------------------


def test_parts_can_be_left_out() -> None:
    """Without the three extras none of their parameters exist; dropouts act in training only."""
    encoder = _encoder(sigma_reparam=False, normformer_norms=False, head_scaling=False, dropout_qkv=0.5)
    names = "\n".join(dict(encoder.named_parameters()))
    assert not any(part in names for part in ("gamma", "norm2", "norm4", "head_scaler"))
    assert "norm1" in names and "norm3" in names
    seq = torch.randn(2, 5, DIM)
    assert torch.equal(encoder(seq, times(2, 5))[0], encoder(seq, times(2, 5))[0])
    encoder.train()
    assert not torch.equal(encoder(seq, times(2, 5))[0], encoder(seq, times(2, 5))[0])


def test_gin_chooses_attention() -> None:
    """Classes and their settings come from gin by both spellings; a missing one names the line to add."""
    gin.bind_parameter("TformerTrajEncoder.attention_type", tf.SlidingWindowFlexAttention)
    with pytest.raises(ConfigurationError, match=r"SlidingWindowFlexAttention\.window_size"):
        TformerTrajEncoder(DIM, CONTEXT)
    gin.bind_parameter("amago.nets.transformer.SlidingWindowFlexAttention.window_size", 4)
    gin.bind_parameter("SigmaReparam.fast_init", True)
    encoder = TformerTrajEncoder(DIM, CONTEXT)
    assert encoder.tformer.layers[2].attention_layer.self_attention.window_size == 4
    with pytest.raises(ConfigurationError, match=r"ClippedSlidingSinkAttention\.window_size"):
        tf.ClippedSlidingSinkAttention()
    gin.bind_parameter("FlashAttention.window_size", (2, 0))
    assert tf.FlashAttention().window_size == (2, 0)
    gin.bind_parameter("TformerTrajEncoder.attention_type", tf.FlexAttention)
    with pytest.raises(ConfigurationError, match=r"FlexAttention cannot be built.*score_mod"):
        TformerTrajEncoder(DIM, CONTEXT)
    gin.bind_parameter("FlexAttention.score_mod", _alibi)
    gin.bind_parameter("FlexAttention.mask_mod", None)
    TformerTrajEncoder(DIM, CONTEXT)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"n_heads": 3}, "n_heads is 3, which does not divide d_model = 16"),
        ({"d_model": 15, "n_heads": 5}, "needs an even width"),
        ({"d_model": 12, "n_heads": 4, "pos_emb": "rope"}, "even width of each head, not 3"),
        ({"pos_emb": "rop"}, "did you mean rope"),
        ({"n_layers": 0}, "n_layers is 0"),
        ({"dropout_attn": 1.5}, "1.5 is no probability"),
        ({"norm": "layers"}, "unknown normalization"),
        ({"activation": "leaky"}, "unknown activation"),
    ],
)
def test_impossible_settings(kwargs: dict[str, Any], message: str) -> None:
    """One line says what is wrong."""
    with pytest.raises(ConfigurationError, match=message):
        _encoder(**kwargs)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: tf.SlidingWindowFlexAttention(window_size=-1), "window_size is -1"),
        (lambda: tf.SlidingWindowFlexAttention(window_size=2.5), "whole number"),
        (lambda: tf.ClippedSlidingSinkAttention(window_size=2, sink_size=-1), "sink_size is -1"),
        (lambda: tf.ClippedSlidingSinkAttention(window_size=2, logit_clip=-1.0), "logit_clip"),
        (lambda: tf.FlashAttention(window_size=(1, 2, 3)), "left, right"),
        (lambda: tf.FlexAttention("alibi", None), "score_mod"),
        (lambda: TformerTrajEncoder(DIM, 8, attention_type=torch.nn.Linear), "subclass of SelfAttention"),
    ],
)
def test_impossible_attention(build: Callable[[], Any], message: str) -> None:
    """One line says what is wrong."""
    with pytest.raises(ConfigurationError, match=message):
        build()


def test_window_without_effect_is_refused() -> None:
    """A window beyond the context would do nothing: whoever set it meant something else."""
    gin.bind_parameter("SlidingWindowFlexAttention.window_size", 50)
    with pytest.raises(ConfigurationError, match="window_size is 50, more than max_seq_len = 8"):
        TformerTrajEncoder(DIM, 8, attention_type=tf.SlidingWindowFlexAttention)


@pytest.mark.parametrize("which", ["dropout_ff", "dropout_emb", "dropout_attn", "dropout_qkv"])
def test_each_dropout_acts_alone(which: str) -> None:
    """Each of the four makes training outputs random; with none of them they are not."""
    off = dict.fromkeys(["dropout_ff", "dropout_emb", "dropout_attn", "dropout_qkv"], 0.0)
    seq = torch.randn(2, 5, DIM)
    for settings in (off, {**off, which: 0.5}):
        encoder = _encoder(sigma_reparam=False, **settings).train()
        first, second = (encoder(seq, times(2, 5))[0] for _ in range(2))
        assert torch.equal(first, second) == (settings is off)


def test_sigma_reparam_keeps_full_precision() -> None:
    """Under autocast the spectral vectors and the weight are those of full precision."""
    layer = tf.SigmaReparam(40, 30).train()
    state = {k: v.clone() for k, v in layer.state_dict().items()}
    exact = layer.effective_weight()
    vectors = layer.u.clone(), layer.v.clone()
    layer.load_state_dict(state)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(layer.effective_weight(), exact)
        assert torch.equal(layer.u, vectors[0]) and torch.equal(layer.v, vectors[1])
        assert layer(torch.randn(2, 40)).dtype == torch.bfloat16
