"""Registry entries of Procgen (family ``procgen``)."""

from __future__ import annotations

from typing import Any

from amago.errors import ConfigurationError
from envs_suite.procgen_games import GAMES, MEMORY_GAMES, SETS, bounds
from envs_suite.random_scores import RANDOM_SCORES
from envs_suite.registry import EnvSpec, Param, Params, Score, Split, register

_LICENCE = "MIT (procgen-mirror, gym, gym3)"
_SOURCE = (
    "returns of a trivial policy and of the best there is, easy mode (Cobbe et al. 2020, arXiv 1912.01588)"
)
_LEVELS = Param(0, "levels there are, of both splits; 0 for all", 0, 1_000_000_000)


def _horizon(params: Params) -> int:
    return params["attempts"] * 1000 + params["attempts"] - 1  # a reset step lies between attempts


def _check_levels(params: Params) -> None:
    if 0 < params["levels"] < 20:
        raise ConfigurationError(
            f"Procgen: parameter 'levels' must be 0 (all) or at least 20, so that either split has some; "
            f"got {params['levels']}"
        )


def _bounds_in_mode(name: str, mode: str) -> tuple[float, float, str] | None:
    """Of another mode than the easy one."""
    if mode == "easy":
        return None
    return *bounds(name, mode), _SOURCE.replace(
        "easy mode", "hard mode" if mode == "hard" else "hard mode, as memory mode has none of its own"
    )


def _make(games: tuple[str, ...], params: dict[str, Any], split: Split) -> Any:
    from envs_suite.procgen_envs import ProcgenGames

    rules = {name: params[name] for name in ("mode", "attempts", "levels")}
    return ProcgenGames(games, **rules, split=split)


def _game(name: str) -> EnvSpec:
    env_id = f"procgen-{name}"
    modes = ("easy", "hard", "memory") if name in MEMORY_GAMES else ("easy", "hard")

    def factory(params: dict[str, Any], num_envs: int, split: Split) -> Any:
        return _make((name,), params, split)

    return EnvSpec(
        id=env_id,
        family="procgen",
        description=f"Procgen's {name}: attempts at levels that were never trained on.",
        licence=_LICENCE,
        parameters={
            "mode": Param("easy", "how levels are made", choices=modes),
            "attempts": Param(1, "attempts at each level", 1, 100),
            "levels": _LEVELS,
        },
        check_together=_check_levels,
        score=Score("return_last", "higher", *GAMES[name].easy, _SOURCE),
        bounds_of=lambda p: _bounds_in_mode(name, p["mode"]),
        horizon_of=_horizon,
        factory=factory,
        samples_tasks=True,
        random_score=RANDOM_SCORES.get(env_id),
        requires=("procgen",),
    )


def _many() -> EnvSpec:
    def factory(params: dict[str, Any], num_envs: int, split: Split) -> Any:
        return _make(SETS[params["games"]], params, split)

    return EnvSpec(
        id="procgen-multi-game",
        family="procgen",
        description="Two attempts at an unknown level of an unknown Procgen game (AMAGO-2, arXiv 2411.11188).",
        licence=_LICENCE,
        parameters={
            "games": Param(
                "all", "which games: all 16, the six with a memory mode, or four", choices=tuple(SETS)
            ),
            "mode": Param(
                "easy",
                "how levels are made; memory leaves games without it in hard mode",
                choices=("easy", "hard", "memory"),
            ),
            "attempts": Param(2, "attempts at each level", 1, 100),
            "levels": _LEVELS,
        },
        check_together=_check_levels,
        score=Score("normalised", "higher", 0.0, 1.0, _SOURCE.replace(", easy mode", " in each game")),
        horizon_of=_horizon,
        factory=factory,
        samples_tasks=True,
        random_score=RANDOM_SCORES.get("procgen-multi-game"),
        requires=("procgen",),
    )


for _name in GAMES:
    register(_game(_name))
register(_many())
