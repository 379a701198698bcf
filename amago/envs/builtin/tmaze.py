"""T-Mazes (Ni et al. 2023) and their exploration noise."""

from amago.envs.builtin import forward

__getattr__, __all__ = forward(
    __name__,
    {
        "TMazeAltPassive": "envs_suite.tmaze",
        "TMazeAltActive": "envs_suite.tmaze",
        "TMazeExploration": "envs_suite.tmaze_exploration",
    },
)
