"""The distributions behind :mod:`amago.nets.policy_dists`, kept lean.

They are on the path of every environment step and every update, so they check nothing and build
nothing that is not asked for. Random draws come from torch's default generator.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch import distributions as pyd

_LOG_2 = math.log(2.0)
_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)
_EPS32 = torch.finfo(torch.float32).eps


class ActionDistribution(pyd.Distribution):
    """A torch distribution that knows its greedy action and the form of stored actions."""

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 (torch's own declaration)

    @property
    @abstractmethod
    def greedy(self) -> Tensor:
        """The action without sampling, in the form of ``sample()``."""

    def stored_log_prob(self, action: Tensor) -> Tensor:
        """Log-probability (..., 1) of stored actions (..., A): the sum over dimensions."""
        return self.log_prob(action).sum(-1, keepdim=True)


class ClippedCategorical(ActionDistribution, pyd.Categorical):
    """``Categorical(probs=probs)`` for probabilities (..., A) that already sum to 1.

    Samples are indices (...), int64.
    """

    _log_probs: Tensor | None = None

    def __init__(self, probs: Tensor) -> None:
        self.probs = probs
        self._param = probs
        self._num_events = probs.shape[-1]
        pyd.Distribution.__init__(self, probs.shape[:-1], validate_args=False)

    @property
    def logits(self) -> Tensor:
        """Log-probabilities (..., A), of probabilities clamped to [eps, 1 - eps]."""
        if self._log_probs is None:
            # a first look under no_grad must not cost later ones their gradient
            with torch.enable_grad():
                self._log_probs = self.probs.clamp(_EPS32, 1.0 - _EPS32).log()
        return self._log_probs

    def expand(self, batch_shape: Any, _instance: Any = None) -> ClippedCategorical:
        return ClippedCategorical(self.probs.expand(*batch_shape, self._num_events))

    @property
    def greedy(self) -> Tensor:
        return self.probs.argmax(-1)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Indices (*sample_shape, ...), int64."""
        probs = self.probs.detach().expand(*sample_shape, *self.probs.shape)
        # the first of A exponential clocks of rate p rings; no check here makes a GPU wait
        return (probs / torch.empty_like(probs).exponential_()).argmax(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        """(...) for indices ``value`` (...)."""
        index, logits = torch.broadcast_tensors(value.long().unsqueeze(-1), self.logits)
        return logits.gather(-1, index[..., :1]).squeeze(-1)

    def stored_log_prob(self, action: Tensor) -> Tensor:
        """(..., 1) for one-hot ``action`` (..., A)."""
        return (action * self.logits).sum(-1, keepdim=True)


class OneHotActions(ActionDistribution):
    """A categorical whose actions are one-hot vectors (..., A).

    ``rsample`` is straight-through Gumbel-softmax (arXiv 1611.01144): one-hot forward, the gradient of
    the soft sample backward.

    Args:
        categorical: batch shape (...), A categories.
        temperature: of the soft sample.
    """

    has_rsample = True

    def __init__(self, categorical: pyd.Categorical, temperature: float) -> None:
        self.categorical, self.temperature = categorical, temperature
        super().__init__(categorical.batch_shape, categorical.probs.shape[-1:], validate_args=False)

    @property
    def probs(self) -> Tensor:
        """(..., A)."""
        return self.categorical.probs

    @property
    def logits(self) -> Tensor:
        """Log-probabilities (..., A)."""
        return self.categorical.logits

    @property
    def mean(self) -> Tensor:
        return self.probs

    @property
    def greedy(self) -> Tensor:
        return self._one_hot(self.probs)

    mode = greedy

    @staticmethod
    def _one_hot(scores: Tensor) -> Tensor:
        # a comparison, not scatter, which has no batched form for stacked seeds
        index = torch.arange(scores.shape[-1], device=scores.device)
        return (index == scores.argmax(-1, keepdim=True)).to(scores.dtype)

    def _noisy_logits(self, sample_shape: torch.Size) -> Tensor:
        logits = self.logits.expand(*sample_shape, *self.logits.shape)
        # -log of an exponential draw is a Gumbel draw
        return logits - torch.empty_like(logits).exponential_().log()

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """One-hot actions (*sample_shape, ..., A), float32."""
        # argmax cuts the graph: no gradient
        return self._one_hot(self._noisy_logits(torch.Size(sample_shape)))

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """One-hot actions (*sample_shape, ..., A) with the gradient of their softmax."""
        noisy = self._noisy_logits(torch.Size(sample_shape))
        soft = F.softmax(noisy / self.temperature, dim=-1)
        # in this order the value is exactly one-hot
        return self._one_hot(noisy) + (soft - soft.detach())

    def log_prob(self, value: Tensor) -> Tensor:
        """(...) for one-hot ``value`` (..., A)."""
        return (value * self.logits).sum(-1)

    def stored_log_prob(self, action: Tensor) -> Tensor:
        return self.log_prob(action).unsqueeze(-1)

    def entropy(self) -> Tensor:
        return self.categorical.entropy()


def _atanh(x: Tensor) -> Tensor:
    return 0.5 * (torch.log1p(x) - torch.log1p(-x))


def _normal_log_prob(x: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    return -0.5 * ((x - loc) / scale).square() - scale.log() - _HALF_LOG_2PI


class TanhNormal(ActionDistribution):
    """tanh of a Gaussian, elementwise; ``loc``, ``scale`` (..., A), log-probabilities per dimension."""

    has_rsample = True

    def __init__(self, loc: Tensor, scale: Tensor, clip: tuple[float, float]) -> None:
        self.loc, self.scale, self.clip = loc, scale, clip
        super().__init__(loc.shape, validate_args=False)

    @property
    def greedy(self) -> Tensor:
        return torch.tanh(self.loc)

    #: The median, strictly; the name that scripts use for the action without noise.
    mean = greedy

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """(*sample_shape, ..., A) in [-1, 1]."""
        shape = self._extended_shape(torch.Size(sample_shape))
        noise = torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        return torch.tanh(self.loc + self.scale * noise)

    def log_prob(self, value: Tensor) -> Tensor:
        """(..., A); the clamped action counts in the density and in the Jacobian."""
        x = _atanh(value.clamp(*self.clip))
        log_jacobian = 2.0 * (_LOG_2 - x - F.softplus(-2.0 * x))
        return _normal_log_prob(x, self.loc, self.scale) - log_jacobian


class BetaAction(ActionDistribution):
    """``2 y - 1`` with y ~ Beta(alpha, beta), elementwise; parameters (..., A)."""

    has_rsample = True

    def __init__(self, alpha: Tensor, beta: Tensor, clip: tuple[float, float]) -> None:
        self.alpha, self.beta, self.clip = alpha, beta, clip
        super().__init__(alpha.shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        return 2.0 * self.alpha / (self.alpha + self.beta) - 1.0

    @property
    def greedy(self) -> Tensor:
        return self.mean

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """(*sample_shape, ..., A) in [-1, 1]; implicit reparametrisation."""
        unit = pyd.Beta(self.alpha, self.beta, validate_args=False)
        return 2.0 * unit.rsample(torch.Size(sample_shape)) - 1.0

    def log_prob(self, value: Tensor) -> Tensor:
        """(..., A), of the clamped action."""
        y = 0.5 * (value.clamp(*self.clip) + 1.0)
        log_norm = torch.lgamma(self.alpha) + torch.lgamma(self.beta) - torch.lgamma(self.alpha + self.beta)
        return (self.alpha - 1.0) * y.log() + (self.beta - 1.0) * torch.log1p(-y) - log_norm - _LOG_2


class TanhMixture(ActionDistribution):
    """tanh of a mixture of M diagonal Gaussians.

    Args:
        loc: (..., M, A).
        scale: (..., M, A).
        logits: (..., M), unnormalised.
    """

    def __init__(self, loc: Tensor, scale: Tensor, logits: Tensor) -> None:
        self.loc, self.scale, self.mode_logits = loc, scale, logits
        super().__init__(logits.shape[:-1], loc.shape[-1:], validate_args=False)

    @staticmethod
    def _pick(index: Tensor, per_mode: Tensor) -> Tensor:
        """Row ``index`` (...) of ``per_mode`` (..., M, A) -> (..., A)."""
        where = index[..., None, None].expand(*index.shape, 1, per_mode.shape[-1])
        return per_mode.gather(-2, where).squeeze(-2)

    @property
    def greedy(self) -> Tensor:
        """Centre of the most probable mode: the average of modes may be an action that none wants."""
        return torch.tanh(self._pick(self.mode_logits.argmax(-1), self.loc))

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """(*sample_shape, ..., A) in [-1, 1]."""
        logits = self.mode_logits.detach().expand(*sample_shape, *self.mode_logits.shape)
        index = (logits - torch.empty_like(logits).exponential_().log()).argmax(-1)
        loc = self._pick(index, self.loc.detach().expand(*sample_shape, *self.loc.shape))
        scale = self._pick(index, self.scale.detach().expand(*sample_shape, *self.scale.shape))
        return torch.tanh(loc + scale * torch.randn_like(loc))

    def log_prob(self, value: Tensor) -> Tensor:
        """(..., 1) for actions (..., A)."""
        x = 0.5 * ((1.0 + value).clamp(min=1e-6).log() - (1.0 - value).clamp(min=1e-6).log())
        per_mode = _normal_log_prob(x.unsqueeze(-2), self.loc, self.scale).sum(-1)
        mixture = torch.logsumexp(F.log_softmax(self.mode_logits, dim=-1) + per_mode, dim=-1, keepdim=True)
        return mixture - torch.log(1.0 - value.square() + 1e-6).sum(-1, keepdim=True)

    def stored_log_prob(self, action: Tensor) -> Tensor:
        return self.log_prob(action)


class MultiBernoulli(ActionDistribution):
    """Independent bits of probability ``sigmoid(logits)``, logits (..., A)."""

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits
        super().__init__(logits.shape, validate_args=False)

    @property
    def probs(self) -> Tensor:
        """(..., A)."""
        return torch.sigmoid(self.logits)

    @property
    def mean(self) -> Tensor:
        return self.probs

    @property
    def greedy(self) -> Tensor:
        return (self.logits > 0.0).to(self.logits.dtype)

    mode = greedy

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """(*sample_shape, ..., A) of 0.0 and 1.0."""
        probs = self.probs.detach().expand(*sample_shape, *self.logits.shape)
        return (torch.rand_like(probs) < probs).to(probs.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        """(..., A)."""
        return value * self.logits - F.softplus(self.logits)

    def stored_log_prob(self, action: Tensor) -> Tensor:
        """(..., 1): the mean over bits."""
        return self.log_prob(action).mean(-1, keepdim=True)
