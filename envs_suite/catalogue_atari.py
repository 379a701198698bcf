"""Registry entries of the Atari games and of stable-retro's consoles (family ``atari``)."""

from __future__ import annotations

from typing import Any

from amago.errors import ConfigurationError
from envs_suite.atari_games import GAMES, SETS
from envs_suite.random_scores import RANDOM_SCORES
from envs_suite.registry import EnvSpec, Param, Params, Score, Split, register

_LICENCE = "GPL-2.0 (ale-py); the ROMs in its wheel belong to their owners"
_REFERENCE = (
    "a random agent and a professional tester, 1-30 idle actions at the start, no sticky actions "
    "(Wang et al. 2016, arXiv 1511.06581)"
)
_PARAMETERS = {
    "size": Param(84, "side of the observation in pixels", 16, 160),
    "colour": Param(False, "three channels instead of one"),
    "frame_skip": Param(4, "frames of a step", 1, 60),
    "sticky": Param(0.25, "probability with which a frame repeats the action before", 0.0, 0.99),
    "frames": Param(108_000, "frames after which an episode is cut off", 60, 1_000_000),
}


def _horizon(params: Params) -> int:
    return -(-params["frames"] // params["frame_skip"])


def _make(games: tuple[str, ...], params: dict[str, Any], minimal: bool = False) -> Any:
    from envs_suite.atari_envs import AtariGames

    rules = {name: params[name] for name in _PARAMETERS}
    return AtariGames(games, **rules, minimal_actions=minimal)


def _game(name: str) -> EnvSpec:
    env_id = f"atari-{name.replace('_', '-')}"
    low, high = GAMES[name]

    def factory(params: dict[str, Any], num_envs: int, split: Split) -> Any:
        return _make((name,), params, params["minimal_actions"])

    return EnvSpec(
        id=env_id,
        family="atari",
        description=f"Atari's {name.replace('_', ' ')}: screens, the game's own rewards, sticky actions.",
        licence=_LICENCE,
        parameters={**_PARAMETERS, "minimal_actions": Param(False, "only the actions that the game uses")},
        score=Score("return", "higher", low, high, _REFERENCE),
        horizon_of=_horizon,
        factory=factory,
        random_score=RANDOM_SCORES.get(env_id),
        requires=("ale_py",),
    )


def _many() -> EnvSpec:
    def factory(params: dict[str, Any], num_envs: int, split: Split) -> Any:
        return _make(SETS[params["games"]], params)

    return EnvSpec(
        id="atari-multi-game",
        family="atari",
        description="One of many Atari games, drawn for each episode, in one space of screens and actions.",
        licence=_LICENCE,
        parameters={
            "games": Param("four", "which games: four, the 26 of Atari 100k, or all 57", choices=tuple(SETS)),
            **_PARAMETERS,
        },
        score=Score("human_normalised", "higher", 0.0, 1.0, _REFERENCE),
        horizon_of=_horizon,
        factory=factory,
        random_score=RANDOM_SCORES.get("atari-multi-game"),
        requires=("ale_py",),
    )


def _retro() -> EnvSpec:
    def factory(params: dict[str, Any], num_envs: int, split: Split) -> Any:
        from envs_suite.retro_envs import RetroGame

        return RetroGame(**params)

    def check_files(params: Params) -> None:
        from envs_suite.retro_envs import find_game

        try:
            find_game(params["game"], params["state"])
        except ConfigurationError as error:
            raise ConfigurationError(f"environment 'retro': {error}") from error

    return EnvSpec(
        id="retro",
        family="atari",
        description="A console game of stable-retro: Airstriker, or one whose ROM you own.",
        licence="MIT (stable-retro; its emulators have licences of their own, GPL-2.0 among them)",
        parameters={
            "game": Param("Airstriker-Genesis-v0", "the package's name of the game", free=True),
            "state": Param("", "where it starts; empty for the game's own beginning", free=True),
            "size": Param(84, "side of the observation in pixels", 16, 160),
            "colour": Param(True, "three channels instead of one"),
            "frame_skip": Param(4, "frames of a step", 1, 60),
            "frames": Param(18_000, "frames after which an episode is cut off", 60, 1_000_000),
            "idle": Param(30, "most frames at the start that nothing is pressed", 0, 1000),
        },
        score=Score("return", "higher", 0.0, 1000.0, "no points, and a thousand: no reference is known"),
        horizon_of=_horizon,
        factory=factory,
        random_score=RANDOM_SCORES.get("retro"),
        requires=("stable_retro",),
        check_files=check_files,
        files_are_in_family=lambda p: True,
    )


for _name in GAMES:
    register(_game(_name))
register(_many())
register(_retro())
