"""PopArt and input normalisation: the reference's statistics, and what must not move them."""

import pytest
import torch
from torch.func import functional_call

from amago.nets.actor_critic import PopArtLayer
from amago.nets.utils import InputNorm
from tests.unit.nets.nets_figures import assert_close, figures

G = 2


def _buffers(module):
    return {k: v.clone() for k, v in module.named_buffers()}


def _same(before, after):
    return all(torch.equal(before[k], after[k]) for k in before)


def test_popart_follows_the_reference():
    """Statistics, the output layer and both scales after each of six (partly masked) updates."""
    d = figures("popart")
    layer = PopArtLayer(G, beta=float(d["beta"]), init_nu=float(d["init_nu"]))
    for i in range(6):
        assert_close(layer(d["probe"], normalized=False), d[f"before{i}"])
        layer.update_stats(d[f"value{i}"], d[f"mask{i}"])
        for name in ("mu", "nu", "w", "b"):
            assert_close(getattr(layer, name), d[f"{name}{i}"])
        assert_close(layer(d["probe"], normalized=False), d[f"after{i}"])
        assert_close(layer.normalize_values(d[f"value{i}"]), d[f"normalised{i}"])


def test_input_norm_follows_the_reference():
    """Statistics and outputs after each of five updates, at the default settings."""
    d = figures("input_norm")
    norm = InputNorm(5)
    assert norm.beta == float(d["beta"])
    for i in range(5):
        norm.update_stats(d[f"x{i}"])
        assert_close(norm.mu, d[f"mu{i}"])
        assert_close(norm.nu, d[f"nu{i}"])
        assert_close(norm(d[f"x{i}"]), d[f"y{i}"])


def test_popart_keeps_unnormalised_predictions():
    """The invariance that gives PopArt its name, under a sudden change of scale."""
    torch.manual_seed(0)
    layer = PopArtLayer(G, beta=0.3)
    q = torch.randn(3, 4, 5, G, 1)
    before = layer(q, normalized=False)
    for scale in (1.0, 300.0, 0.1):
        layer.update_stats(scale * torch.randn(3, 4, 1, G, 1) + scale)
        assert_close(layer(q, normalized=False), before, tolerance=1e-4)
    assert not torch.allclose(layer.w, torch.ones(G, 1))


def test_popart_normalised_scale_is_consistent():
    """The critic's normalised prediction and a normalised target agree when their returns do."""
    layer = PopArtLayer(G, beta=0.3)
    layer.update_stats(10.0 * torch.randn(3, 4, 1, G, 1) - 4.0)
    q = torch.randn(3, 4, 5, G, 1)
    assert_close(layer.normalize_values(layer(q, normalized=False)), layer(q))


@pytest.mark.parametrize("padding", [0.0, 1e6, float("inf"), float("nan")])
def test_padding_has_no_influence(padding):
    """Masked values of any size, NaN included, give the statistics of the valid ones alone."""
    torch.manual_seed(0)
    y = torch.randn(3, 6, G, 1)
    mask = torch.ones(3, 6, 1, 1, dtype=torch.bool)
    mask[2, 4:] = False
    padded = torch.where(mask, y, padding)
    layer, short = PopArtLayer(G), PopArtLayer(G)
    layer.update_stats(padded, mask)
    short.update_stats(y.flatten(0, 1)[:16])
    norm, short_norm = InputNorm(G), InputNorm(G)
    norm.update_stats(padded[..., 0], mask[..., 0])
    short_norm.update_stats(y.flatten(0, 1)[:16, :, 0])
    for ours, expected in ((layer, short), (norm, short_norm)):
        for name, value in ours.named_buffers():
            torch.testing.assert_close(value, dict(expected.named_buffers())[name], rtol=1e-6, atol=1e-7)


def test_all_masked_batch_changes_nothing():
    """Not even the step count; and a discount without targets stands still while others move."""
    layer, norm = PopArtLayer(G), InputNorm(3)
    layer.update_stats(torch.randn(2, 4, G, 1))
    norm.update_stats(torch.randn(2, 4, 3))
    before, before_norm = _buffers(layer), _buffers(norm)
    layer.update_stats(torch.full((2, 4, G, 1), torch.nan), torch.zeros(2, 4, 1, 1, dtype=torch.bool))
    norm.update_stats(torch.full((2, 4, 3), torch.nan), torch.zeros(2, 4, 1, dtype=torch.bool))
    assert _same(before, _buffers(layer))
    assert _same(before_norm, _buffers(norm))
    layer.update_stats(torch.ones(2, 4, G, 1), torch.tensor([[True], [False]]))
    after = _buffers(layer)
    assert all(torch.equal(before[k][1], after[k][1]) for k in before)
    assert not torch.equal(before["mu"][0], after["mu"][0])
    assert after["_t"].flatten().tolist() == [3.0, 2.0]


def test_disabled_popart_is_the_identity():
    """``popart=False``: nothing is scaled and nothing moves."""
    layer = PopArtLayer(G, enabled=False)
    before = _buffers(layer)
    y = torch.randn(2, 3, G, 1)
    layer.update_stats(y)
    assert _same(before, _buffers(layer))
    for out in (layer(y), layer(y, normalized=False), layer.normalize_values(y)):
        assert torch.equal(out, y)


def test_skipping_input_norm_still_counts():
    """``skip`` passes values through; statistics can still be kept."""
    norm = InputNorm(3, skip=True)
    x = torch.randn(4, 3)
    norm.update_stats(x)
    assert torch.equal(norm(x), x)
    assert norm._t.item() == 2.0


def test_input_norm_extremes():
    """Hardly varying features are only centred; outliers are clamped; a large mean gives no NaN."""
    norm = InputNorm(3, beta=0.5)
    x = torch.tensor([[1.0, 0.0, 3e4], [1.0, 2.0, 3e4]])
    for _ in range(60):
        norm.update_stats(x)
    assert norm(x)[:, 0].abs().max() < 1e-3
    assert norm(torch.tensor([[1.5, 1.0, 3e4]]))[0, 0].item() == pytest.approx(0.5, abs=1e-3)
    assert norm(torch.tensor([[1.0, 1e9, 3e4]]))[0, 1].item() == 1e4
    y = torch.tensor([[1.2, 0.7, 3e4]])
    torch.testing.assert_close(norm.denormalize_values(norm(y)), y)


def test_rounding_cannot_make_a_negative_variance():
    """Far from zero the second moment can round below the squared mean; that is not NaN."""
    norm = InputNorm(1)
    norm.mu.fill_(1000.0)
    norm.nu.fill_(1000.0**2 - 0.0625)  # one step of float32 below
    assert norm.sigma.item() == pytest.approx(1e-3)
    assert norm(torch.tensor([[1001.0]])).item() == 1.0


def test_updates_run_under_functional_call():
    """Statistics of buffers that are passed in move, in place; the module's own stay."""
    layer = PopArtLayer(G)

    class Update(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, y):
            self.layer.update_stats(y)

    update = Update()
    passed, own = _buffers(update), _buffers(update)
    functional_call(update, passed, (torch.randn(5, G, 1),))
    assert _same(own, _buffers(update))
    assert not _same(own, passed)
