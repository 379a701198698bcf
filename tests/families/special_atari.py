"""What only the family ``atari`` has: games, ROMs, screens, and one emulator for all (run by its own Python)."""

from __future__ import annotations

from typing import Any

import ale_py
import numpy as np
from gymnasium.utils.env_checker import check_env
from run_checks import refused, run_checks

import envs_suite
from envs_suite import atari_envs
from envs_suite.atari_envs import ACTIONS, AtariGames
from envs_suite.atari_games import GAMES, SETS
from envs_suite.retro_envs import RetroGame


def check_gymnasium_accepts_them() -> None:
    check_env(AtariGames(["pong"], frames=400), skip_render_check=True)
    check_env(AtariGames(["pong", "breakout"], colour=True, frames=400), skip_render_check=True)
    game = RetroGame()
    check_env(game, skip_render_check=True)
    game.close()


def check_every_game_has_its_rom() -> None:
    for game in GAMES:
        assert atari_envs.find_rom(game).stat().st_size > 1000


def check_bad_input_is_one_line() -> None:
    refused(lambda: AtariGames(["brekout"]), "brekout", "did you mean", "breakout")
    refused(lambda: AtariGames([]), "at least one game")
    refused(lambda: AtariGames(["pong"], size=0), "size")
    refused(lambda: AtariGames(["pong", "qbert"], minimal_actions=True), "single game")
    refused(lambda: RetroGame("Airstrike-Genesis-v0"), "did you mean", "Airstriker-Genesis-v0")
    refused(lambda: RetroGame("1942-Nes-v0"), "ROM", "1942-Nes-v0", "stable_retro.import")
    refused(lambda: RetroGame(state="Level9"), "Level9", "Level1")
    refused(lambda: RetroGame(size=0), "size")
    retro = envs_suite.get("retro")
    refused(lambda: retro.make({"game": "../rom"}), "no game", "../rom")


def check_a_missing_rom_is_one_line() -> None:
    known = ale_py.roms.get_rom_path
    ale_py.roms.get_rom_path = lambda game: None
    try:
        refused(lambda: AtariGames(["pong"]), "ROM", "pong", "make family-atari")
    finally:
        ale_py.roms.get_rom_path = known


def check_actions() -> None:
    assert AtariGames(["pong"]).action_space.n == ACTIONS
    assert AtariGames(["pong"], minimal_actions=True).action_space.n == 6


def check_screens_are_the_brighter_of_two_frames() -> None:
    """Against the emulator stepped by hand with the same seed."""
    env = AtariGames(["breakout"], size=160, sticky=0.0)
    env.reset(seed=3)
    drawn = np.random.default_rng()
    drawn.bit_generator.state = np.random.default_rng(3).bit_generator.state
    drawn.integers(1)
    ale = ale_py.ALEInterface()
    ale.setFloat("repeat_action_probability", 0.0)
    ale.setInt("random_seed", int(drawn.integers(1, 2**31)))
    ale.loadROM(atari_envs.find_rom("breakout"))
    for action in (1, 3, 3, 4, 0, 3):
        seen, reward, *_ = env.step(action)
        frames, gained = [], 0.0
        for _ in range(4):
            gained += ale.act(ale.getLegalActionSet()[action])
            frames.append(ale.getScreenGrayscale())
        assert reward == gained
        np.testing.assert_array_equal(seen, env._observation(np.maximum(frames[-1], frames[-2])))


def check_rewards_are_not_clipped() -> None:
    env = AtariGames(["space_invaders"])
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    rewards = [env.step(int(rng.integers(ACTIONS)))[1] for _ in range(400)]
    assert max(rewards) > 1.0


def check_games_take_turns_in_evaluation() -> None:
    spec = envs_suite.get("atari-multi-game")
    env = spec.make(split="eval")
    names = []
    for task in range(8):
        env.reset(seed=1, options={"task_index": task})
        names += env.env_names
    assert names == [f"atari-multi-game/{game}" for game in SETS["four"]] * 2
    drawn = set()
    for _ in range(30):
        env.reset()
        drawn |= set(env.env_names)
    assert len(drawn) == 4


def check_frames_run_out() -> None:
    env = AtariGames(["pong"], frames=42)
    env.reset(seed=0)
    ends = [env.step(0)[2:4] for _ in range(11)]
    assert ends == [(False, False)] * 10 + [(False, True)]


def _play(env: RetroGame, seed: int, actions: np.ndarray) -> list[Any]:
    seen: list[Any] = [env.reset(seed=seed)[0]]
    for action in actions:
        obs, reward, terminated, truncated, _ = env.step(action)
        seen += [obs, reward, terminated]
        if terminated or truncated:
            seen.append(env.reset()[0])
    return seen


def _same(a: list[Any], b: list[Any]) -> bool:
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def check_games_share_one_emulator() -> None:
    """Two games that take turns see what each sees alone, rewards and ends included."""
    actions = np.random.default_rng(0).integers(2, size=(500, 12))
    left, right = RetroGame(), RetroGame()
    alone = [_play(left, 1, actions), _play(right, 2, actions)]
    together: list[list[Any]] = [[left.reset(seed=1)[0]], [right.reset(seed=2)[0]]]
    for action in actions:
        for env, seen in zip((left, right), together, strict=True):
            obs, reward, terminated, truncated, _ = env.step(action)
            seen += [obs, reward, terminated]
            if terminated or truncated:
                seen.append(env.reset()[0])
    assert _same(alone[0], together[0])
    assert _same(alone[1], together[1])
    assert not _same(*together)
    assert sum(part for part in alone[0] if isinstance(part, float)) > 0
    left.close()
    right.close()
    fresh = RetroGame()
    assert _same(_play(fresh, 1, actions), alone[0])
    fresh.close()


if __name__ == "__main__":
    run_checks(globals())
