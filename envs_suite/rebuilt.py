"""Environments that keep something of an episode across resets: built anew for each one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import gymnasium as gym


class Rebuilt(gym.Env):
    """A new environment for every episode, seeded from this one's generator.

    Box2D's worlds need it: bodies are taken out of a world and put back at a reset, and the order in which
    contacts are solved afterwards depends on what was there before, so one seed gave two episodes.

    Args:
        build: makes a fresh environment.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}  # type: ignore[misc]

    def __init__(self, build: Callable[[], gym.Env]) -> None:
        self.build = build
        self.env = build()
        self.observation_space = self.env.observation_space
        self.action_space = self.env.action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.env.close()
        self.env = self.build()
        return self.env.reset(seed=int(self.np_random.integers(2**31)), options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict]:
        return self.env.step(action)

    def close(self) -> None:
        self.env.close()
