"""MazeRunner: mazes, splits, and dynamics against a second implementation."""

from __future__ import annotations

import numpy as np
import pytest

from envs_suite.maze_goals import GoalsApart, MazeRunnerAMAGOEnv
from envs_suite.maze_runner import MazeRules, MazeRunnerGymEnv, MazeRunnerVector, draw_task
from envs_suite.mazes import draw_walls, sight


def _flood(walls: np.ndarray, start: tuple[int, int]) -> np.ndarray:
    wet = np.zeros_like(walls)
    wet[start] = True
    for _ in range(walls.size):
        grown = wet.copy()
        grown[1:] |= wet[:-1]
        grown[:-1] |= wet[1:]
        grown[:, 1:] |= wet[:, :-1]
        grown[:, :-1] |= wet[:, 1:]
        grown &= ~walls
        if (grown == wet).all():
            break
        wet = grown
    return wet


def _naive_walls(rng: np.random.Generator, size: int) -> np.ndarray:
    """The same maze by one draw for every try, walls and pillars on one grid."""
    walls = np.zeros((size, size), dtype=bool)
    walls[[0, -1]] = walls[:, [0, -1]] = True
    seeds = rng.integers(size // 2 + 1, size=(int(0.75 * (size // 2) ** 2), 2))
    for row, column in (2 * seeds).tolist():
        walls[row, column] = True
        for _ in range(int(7.5 * size)):
            ways = [(row - 2, column), (row + 2, column), (row, column - 2), (row, column + 2)]
            ways = [(r, c) for r, c in ways if 0 <= r < size and 0 <= c < size]
            if all(walls[way] for way in ways):
                break
            to = ways[int(rng.integers(len(ways)))]
            if not walls[to]:
                walls[to] = walls[(row + to[0]) // 2, (column + to[1]) // 2] = True
                row, column = to
    walls[size - 5 : size - 1, 1:-1] = False
    walls[size - 4 : size - 1, [size // 2 - 1, size // 2 + 1]] = True
    return walls


@pytest.mark.parametrize("size", [9, 11, 15, 31])
def test_walls_are_drawn_as_one_by_one(size: int) -> None:
    """Guards drawing ahead: the same maze, and the generator left at the same place, as with single draws."""
    for seed in range(30):
        ours, naive = np.random.default_rng(seed), np.random.default_rng(seed)
        for rng in (ours, naive):
            rng.integers(2, size=seed % 2)  # half of the times, half of a 64-bit word waits in the generator
        np.testing.assert_array_equal(draw_walls(ours, size), _naive_walls(naive, size))
        assert ours.bit_generator.state == naive.bit_generator.state


@pytest.mark.parametrize("size", [9, 11, 15, 31])
def test_every_free_cell_can_be_reached(size: int) -> None:
    """Guards solvability: from the start every free cell is reached, so every goal is."""
    rng = np.random.default_rng(size)
    for _ in range(30):
        walls = draw_walls(rng, size)
        assert walls[[0, -1]].all()
        assert walls[:, [0, -1]].all()
        np.testing.assert_array_equal(_flood(walls, MazeRules(size).start), ~walls)


def test_mazes_have_walls() -> None:
    """Guards the drawing of walls: above the cleared rows a good third of a maze is wall, and mazes differ."""
    rng = np.random.default_rng(0)
    mazes = [draw_walls(rng, 15) for _ in range(50)]
    inner = np.mean([m[1:10, 1:-1].mean() for m in mazes])
    assert 0.25 < inner < 0.5
    assert len({m.tobytes() for m in mazes}) == 50


def test_splits_share_no_maze() -> None:
    """Guards disjointness at a size where mazes repeat, and that evaluation task i is one maze."""
    seen = {}
    for split in ("train", "eval"):
        env = MazeRunnerVector(150, 9, 1, 3, 50, split=split)
        env.reset(seed=list(range(150)))
        seen[split] = {w.tobytes() for w in env.walls}
    assert not seen["train"] & seen["eval"]
    env = MazeRunnerVector(20, 15, 1, 3, 50, True, "eval")
    fixed = []
    for seed in (0, 1):
        env.reset(seed=seed, options={"task_index": np.arange(20)})
        fixed.append([a.copy() for a in (env.walls, env.goals, env.moves)])
    for one, other in zip(*fixed, strict=True):
        np.testing.assert_array_equal(one, other)
    assert len({w.tobytes() for w in fixed[0][0]}) == 20


def test_goals_are_as_asked() -> None:
    """Guards goals: between the two numbers, all different, on free cells, never on the start."""
    rules = MazeRules(9, 1, 3)
    counts = []
    for seed in range(100):
        task = draw_task(rules, np.random.default_rng(seed), None)
        cells = {tuple(g) for g in task.goals.tolist()}
        assert len(cells) == len(task.goals)
        assert rules.start not in cells
        assert not task.walls[task.goals[:, 0], task.goals[:, 1]].any()
        counts.append(len(cells))
    assert set(counts) == {1, 2, 3}


def test_dynamics() -> None:
    """Guards moves, sight, goals in order, rewards and ends against a maze that is walked as text."""
    n, limit = 9, 200
    rules = MazeRules(n, 1, 3, limit, shuffle_actions=True)
    env = MazeRunnerGymEnv(n, 1, 3, limit, randomized_action_space=True)
    rng = np.random.default_rng(0)
    total, complete = 0.0, 0
    for seed in range(40):
        obs, _ = env.reset(seed=seed)
        task = draw_task(rules, np.random.default_rng(seed), None)
        text = ["".join("#" if w else "." for w in row) for row in task.walls]
        ways = [[(0, -1), (-1, 0), (0, 1), (1, 0), (0, 0)][k] for k in task.order]
        row, column = n - 2, n // 2
        left = [tuple(g) for g in task.goals.tolist()]
        for t in range(1, limit + 1):
            across, down = text[row], "".join(line[column] for line in text)
            free = [
                len(across[:column]) - 1 - across[:column].rfind("#"),
                len(down[:row]) - 1 - down[:row].rfind("#"),
                across[column + 1 :].find("#"),
                down[row + 1 :].find("#"),
            ]
            goals = [(-1, -1)] * (3 - len(left)) + left
            np.testing.assert_allclose(obs[:6], np.array([row, column, *free]) / n, rtol=1e-6)
            np.testing.assert_allclose(obs[7:], np.array(goals).ravel() / n, rtol=1e-6)
            assert obs[6] == pytest.approx((t - 1) / limit)
            action = int(rng.integers(5))
            dr, dc = ways[action]
            if text[row + dr][column + dc] == ".":
                row, column = row + dr, column + dc
            hit = (row, column) == left[0]
            if hit:
                left.pop(0)
            obs, reward, terminated, _, info = env.step(action)
            assert reward == hit
            assert terminated == (not left or t == limit)
            total += reward
            if terminated:
                break
        assert info["AMAGO_LOG_METRIC success"] == (not left)
        assert info["AMAGO_LOG_METRIC goal_fraction"] == pytest.approx(1 - len(left) / len(task.goals))
        complete += not left
    assert total > 10
    assert complete > 2


def test_sight_by_hand() -> None:
    """Guards the table of free cells on a maze small enough to count."""
    walls = np.array([[c == "#" for c in row] for row in ["#####", "#...#", "#.#.#", "#...#", "#####"]])
    assert sight(walls)[1, 1].tolist() == [0, 0, 2, 2]
    assert sight(walls)[2, 3].tolist() == [0, 1, 0, 1]
    assert sight(walls)[3, 3].tolist() == [2, 2, 0, 0]


def test_goals_apart_are_the_same_maze() -> None:
    """`MazeRunnerAMAGOEnv`: the flat form's numbers, and all that a relabeller needs to know of rewards."""
    flat, apart = MazeRunnerGymEnv(9, 3, 3, 200), GoalsApart(MazeRunnerGymEnv(9, 3, 3, 200))
    rng, rewarded = np.random.default_rng(0), 0
    for seed in range(20):
        one, _ = flat.reset(seed=seed)
        other, _ = apart.reset(seed=seed)
        terminated = False
        while not terminated:
            np.testing.assert_array_equal(other["obs"], one[:7])
            np.testing.assert_allclose(other["goals"].ravel() / 9, one[7:], rtol=1e-6)
            np.testing.assert_allclose(other["achieved"][0] / 9, one[:2], rtol=1e-6)
            assert apart.observation_space.contains(other)
            ahead = next(goal for goal in other["goals"] if goal[0] >= 0)
            action = int(rng.integers(5))
            one, reward, terminated, *_ = flat.step(action)
            other, *rest = apart.step(action)
            assert rest[:2] == [reward, terminated]
            assert reward == float((other["achieved"][0] == ahead).all())
            rewarded += int(reward)
    assert rewarded > 10
    assert MazeRunnerAMAGOEnv(11, 2, 50, True).env_name == "MazeRunner-11x11-k2"
