"""Goals in order in an unknown maze."""

from amago.envs.builtin import forward

__getattr__, __all__ = forward(
    __name__,
    {"MazeRunnerGymEnv": "envs_suite.maze_runner", "MazeRunnerAMAGOEnv": "envs_suite.maze_goals"},
)
