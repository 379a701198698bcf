"""Action distributions: what an actor's output vector means.

A :class:`PolicyOutput` turns the network's numbers into a distribution. Shapes: B sequences, L
timesteps, G discounts, A action size, K samples. Every distribution here offers, besides torch's own
methods (``sample``, ``rsample`` where a gradient exists, ``log_prob``):

* ``greedy``: the action without sampling, in the form that ``sample()`` has;
* ``stored_log_prob(action)``: log-probability (..., 1) of actions as replay keeps them (..., A).

:func:`greedy_action` and :func:`stored_log_prob` do the same for any torch distribution.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import gin
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch import distributions as pyd

from amago.errors import ConfigurationError
from amago.nets._action_dists import (
    ActionDistribution,
    BetaAction,
    ClippedCategorical,
    MultiBernoulli,
    OneHotActions,
    TanhMixture,
    TanhNormal,
)

StdActivation = Callable[[Tensor, float, float | None], Tensor]


def greedy_action(dist: pyd.Distribution) -> Tensor:
    """The action of ``dist`` without sampling, in the form of ``dist.sample()``."""
    if isinstance(dist, ActionDistribution):
        return dist.greedy
    try:
        return dist.mode
    except NotImplementedError:
        return dist.mean


def stored_log_prob(dist: pyd.Distribution, action: Tensor) -> Tensor:
    """Log-probability (..., 1) of actions as replay keeps them.

    Args:
        dist: batch shape (B, L, G) or, with one dimension per action, (B, L, G, A).
        action: (B, L, 1 or G, A): one-hot, binary, or in [-1, 1].
    """
    if isinstance(dist, ActionDistribution):
        return dist.stored_log_prob(action)
    if isinstance(dist, pyd.Categorical):
        return (action * dist.logits).sum(-1, keepdim=True)
    log_prob = dist.log_prob(action)
    return log_prob.unsqueeze(-1) if dist.event_shape else log_prob.sum(-1, keepdim=True)


def _check_std(name: str, low: float, high: float | None, activation: StdActivation) -> None:
    """Refuse bounds of a standard deviation that our activations cannot have; a user's own may mean others."""
    ours = activation in (tanh_bounded_positive, softplus_bounded_positive)
    if ours and (not low > 0.0 or (high is not None and not high > low)):
        raise ConfigurationError(f"{name} needs 0 < std_low < std_high, not {low} and {high}")
    if high is None and activation is tanh_bounded_positive:
        raise ConfigurationError(
            f"{name}.std_high is None, but tanh_bounded_positive needs an upper bound; set it, or use "
            "softplus_bounded_positive"
        )


def _check_clip(name: str, clip: tuple[float, float]) -> tuple[float, float]:
    """The bounds, if they lie within the open interval where log-probabilities are finite."""
    low, high = clip
    if not -1.0 < low < high < 1.0:
        raise ConfigurationError(
            f"{name}.clip_actions_on_log_prob is {tuple(clip)}; both must lie within -1 and 1, without these"
        )
    return low, high


def tanh_bounded_positive(x: Tensor, low: float, high: float | None) -> Tensor:
    """Maps any number into (low, high), both positive, evenly on a log scale; elementwise."""
    if high is None:
        raise ValueError("tanh_bounded_positive needs an upper bound; use softplus_bounded_positive without")
    log_low, log_high = math.log(low), math.log(high)
    return torch.exp(log_low + 0.5 * (log_high - log_low) * (torch.tanh(x) + 1.0))


def softplus_bounded_positive(x: Tensor, low: float, high: float | None = None) -> Tensor:
    """``low + softplus(x)``, at most ``high`` (None: no bound); elementwise."""
    y = low + F.softplus(x)
    return y if high is None else y.clamp(max=high)


class PolicyOutput(nn.Module, ABC):
    """What the numbers that an actor puts out mean.

    Args:
        d_action: action size A (number of actions when discrete).
    """

    def __init__(self, d_action: int) -> None:
        super().__init__()
        self.d_action = d_action

    @property
    @abstractmethod
    def is_discrete(self) -> bool:
        """Whether actions are whole numbers (an index, or bits)."""

    @property
    @abstractmethod
    def actions_differentiable(self) -> bool:
        """Whether the value of the policy's own action has a gradient that reaches the policy.

        True for reparametrised samples and for discrete policies, whose probabilities weigh the
        critic's values; the online actor loss needs it.
        """

    @property
    @abstractmethod
    def input_dimension(self) -> int:
        """How many numbers P the actor puts out per timestep and discount."""

    def action_from_buffer(self, action: Tensor) -> Tensor:
        """Stored actions (..., A) in the form that critics are given; the same shape."""
        return action

    @abstractmethod
    def forward(self, vec: Tensor, log_dict: dict[str, Any] | None = None) -> pyd.Distribution:
        """The distribution for actor outputs ``vec`` (B, L, G, P).

        Args:
            vec: actor outputs.
            log_dict: if given, receives detached scalar tensors that are worth plotting.
        """


@gin.configurable
class Discrete(PolicyOutput):
    """One of A actions; probabilities are kept within bounds and renormalised.

    Bounds keep some exploration and keep log-probabilities of stored actions finite. They also apply
    to stored one-hot actions before these index the critics.

    Args:
        d_action: number of actions.
        clip_prob_low: least probability, before renormalising.
        clip_prob_high: greatest probability, before renormalising.
    """

    def __init__(self, d_action: int, clip_prob_low: float = 0.001, clip_prob_high: float = 0.99) -> None:
        super().__init__(d_action)
        if not 0.0 <= clip_prob_low < clip_prob_high <= 1.0:
            raise ConfigurationError(
                f"Discrete needs 0 <= clip_prob_low < clip_prob_high <= 1, not {clip_prob_low} and {clip_prob_high}"
            )
        self.clip_prob_low, self.clip_prob_high = clip_prob_low, clip_prob_high

    @property
    def is_discrete(self) -> bool:
        return True

    @property
    def actions_differentiable(self) -> bool:
        return True

    @property
    def input_dimension(self) -> int:
        return self.d_action

    def _clip(self, probs: Tensor) -> Tensor:
        clipped = probs.clamp(self.clip_prob_low, self.clip_prob_high)
        # Padding's action is all zeros, which without a lower bound sum to zero.
        return clipped / clipped.sum(-1, keepdim=True).clamp(min=torch.finfo(clipped.dtype).tiny)

    def action_from_buffer(self, action: Tensor) -> Tensor:
        """One-hot actions (..., A) as probabilities within the bounds, which weigh the critics' values."""
        return self._clip(action)

    def forward(self, vec: Tensor, log_dict: dict[str, Any] | None = None) -> ClippedCategorical:
        dist = ClippedCategorical(self._clip(F.softmax(vec.float(), dim=-1)))
        if log_dict is not None:
            probs = dist.probs.detach()
            log_dict["Policy Entropy"] = -(probs * probs.log()).sum(-1).mean()
            log_dict["Policy Max Prob"] = probs.amax(-1).mean()
        return dist


@gin.configurable
class DiscreteLikeContinuous(OneHotActions):
    """A categorical whose actions are one-hot vectors, as critics of continuous actions want them.

    Its temperature is gin's. Inside code that is to be captured as one graph, which cannot look into
    gin, read ``temperature`` once and build :class:`OneHotActions` with it.

    Args:
        categorical: batch shape (...), A categories.
        gumbel_softmax_temperature: of the soft sample whose gradient ``rsample`` has.
    """

    def __init__(self, categorical: pyd.Categorical, gumbel_softmax_temperature: float = 0.5) -> None:
        super().__init__(categorical, gumbel_softmax_temperature)


@gin.configurable
class TanhGaussian(PolicyOutput):
    """Gaussian squashed by tanh, one per action dimension; ``vec`` is [mu (A), std parameter (A)].

    Args:
        d_action: action size A.
        std_low: least standard deviation.
        std_high: greatest standard deviation.
        std_activation: function (x, low, high) that gives the standard deviation.
        clip_actions_on_log_prob: actions are clamped to this before their log-probability is taken;
            it must exclude ±1, where the inverse of tanh is infinite.
    """

    def __init__(
        self,
        d_action: int,
        std_low: float = math.exp(-5.0),
        std_high: float = math.exp(2.0),
        std_activation: StdActivation = tanh_bounded_positive,
        clip_actions_on_log_prob: tuple[float, float] = (-0.99, 0.99),
    ) -> None:
        super().__init__(d_action)
        _check_std("TanhGaussian", std_low, std_high, std_activation)
        self.std_low, self.std_high, self.std_activation = std_low, std_high, std_activation
        self.clip_actions_on_log_prob = _check_clip("TanhGaussian", clip_actions_on_log_prob)

    @property
    def is_discrete(self) -> bool:
        return False

    @property
    def actions_differentiable(self) -> bool:
        return True

    @property
    def input_dimension(self) -> int:
        return 2 * self.d_action

    def forward(self, vec: Tensor, log_dict: dict[str, Any] | None = None) -> TanhNormal:
        loc, std_param = vec.float().chunk(2, dim=-1)
        std = self.std_activation(std_param, self.std_low, self.std_high)
        if log_dict is not None:
            log_dict["Policy Std"] = std.detach().mean()
        return TanhNormal(loc, std, self.clip_actions_on_log_prob)


@gin.configurable
class GMM(PolicyOutput):
    """Mixture of diagonal Gaussians, squashed by tanh.

    ``vec`` is [means (modes x A), std parameters (modes x A), mode logits (modes)]. Which mode a sample
    comes from has no gradient, so there is none through actions.

    Args:
        d_action: action size A.
        gmm_modes: number of Gaussians.
        std_low: least standard deviation.
        std_high: greatest standard deviation (None: no bound).
        std_activation: function (x, low, high) that gives the standard deviation.
    """

    def __init__(
        self,
        d_action: int,
        gmm_modes: int = 5,
        std_low: float = 0.0001,
        std_high: float | None = None,
        std_activation: StdActivation = softplus_bounded_positive,
    ) -> None:
        super().__init__(d_action)
        if gmm_modes < 1:
            raise ConfigurationError(f"GMM.gmm_modes is {gmm_modes}; use at least 1")
        _check_std("GMM", std_low, std_high, std_activation)
        self.gmm_modes = gmm_modes
        self.std_low, self.std_high, self.std_activation = std_low, std_high, std_activation

    @property
    def is_discrete(self) -> bool:
        return False

    @property
    def actions_differentiable(self) -> bool:
        return False

    @property
    def input_dimension(self) -> int:
        return self.gmm_modes * (2 * self.d_action + 1)

    def forward(self, vec: Tensor, log_dict: dict[str, Any] | None = None) -> TanhMixture:
        width = self.gmm_modes * self.d_action
        means, std_params, logits = vec.float().split([width, width, self.gmm_modes], dim=-1)
        means = means.unflatten(-1, (self.gmm_modes, self.d_action))
        std_params = std_params.unflatten(-1, (self.gmm_modes, self.d_action))
        std = self.std_activation(std_params, self.std_low, self.std_high)
        if log_dict is not None:
            log_dict["Policy Std"] = std.detach().mean()
        return TanhMixture(means, std, logits)


@gin.configurable
class Beta(PolicyOutput):
    """Beta distribution stretched over [-1, 1], one per dimension; ``vec`` is [alpha (A), beta (A)].

    Both parameters above 1 make it unimodal (arXiv 2111.02202 finds that it trains well).

    Args:
        d_action: action size A.
        alpha_low: least alpha.
        alpha_high: greatest alpha (None: no bound).
        beta_low: least beta.
        beta_high: greatest beta (None: no bound).
        std_activation: function (x, low, high) that gives alpha and beta.
        clip_actions_on_log_prob: actions are clamped to this before their log-probability is taken.
    """

    def __init__(
        self,
        d_action: int,
        alpha_low: float = 1.0001,
        alpha_high: float | None = None,
        beta_low: float = 1.0001,
        beta_high: float | None = None,
        std_activation: StdActivation = softplus_bounded_positive,
        clip_actions_on_log_prob: tuple[float, float] = (-0.99, 0.99),
    ) -> None:
        super().__init__(d_action)
        self.alpha_low, self.alpha_high = alpha_low, alpha_high
        self.beta_low, self.beta_high = beta_low, beta_high
        self.std_activation = std_activation
        self.clip_actions_on_log_prob = _check_clip("Beta", clip_actions_on_log_prob)

    @property
    def is_discrete(self) -> bool:
        return False

    @property
    def actions_differentiable(self) -> bool:
        return True

    @property
    def input_dimension(self) -> int:
        return 2 * self.d_action

    def forward(self, vec: Tensor, log_dict: dict[str, Any] | None = None) -> BetaAction:
        alpha, beta = vec.float().chunk(2, dim=-1)
        alpha = self.std_activation(alpha, self.alpha_low, self.alpha_high)
        beta = self.std_activation(beta, self.beta_low, self.beta_high)
        if log_dict is not None:
            log_dict["Policy Alpha"] = alpha.detach().mean()
            log_dict["Policy Beta"] = beta.detach().mean()
        return BetaAction(alpha, beta, self.clip_actions_on_log_prob)


@gin.configurable
class Multibinary(PolicyOutput):
    """A independent bits; ``vec`` holds their logits. Samples have no gradient.

    Args:
        d_action: number of bits A.
    """

    def __init__(self, d_action: int) -> None:
        super().__init__(d_action)

    @property
    def is_discrete(self) -> bool:
        return True

    @property
    def actions_differentiable(self) -> bool:
        return False

    @property
    def input_dimension(self) -> int:
        return self.d_action

    def forward(self, vec: Tensor, log_dict: dict[str, Any] | None = None) -> MultiBernoulli:
        dist = MultiBernoulli(vec.float())
        if log_dict is not None:
            log_dict["Policy Max Prob"] = torch.maximum(dist.probs, 1.0 - dist.probs).detach().mean()
        return dist
