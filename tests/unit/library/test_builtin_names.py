"""AMAGO's module paths of environments."""

from __future__ import annotations

import importlib
import subprocess
import sys

import gymnasium as gym
import pytest

from amago.errors import ConfigurationError

NAMES = {
    "toy_gym": ["MetaFrozenLake", "RoomKeyDoor"],
    "tmaze": ["TMazeAltPassive", "TMazeAltActive"],
    "popgym_envs": ["POPGymAMAGO", "MultiDomainPOPGymAMAGO"],
    "mazerunner": ["MazeRunnerGymEnv", "MazeRunnerAMAGOEnv"],
    "half_cheetah_v4_vel": ["HalfCheetahV4_MetaVelocity"],
    "alchemy": ["SymbolicAlchemy"],
}


@pytest.mark.parametrize(("module", "name"), [(m, n) for m, names in NAMES.items() for n in names])
def test_names_lead_to_the_environments(module: str, name: str) -> None:
    """`from amago.envs.builtin.tmaze import TMazeAltPassive` and the others, as in AMAGO's examples."""
    found = getattr(importlib.import_module(f"amago.envs.builtin.{module}"), name)
    assert issubclass(found, gym.Env) and found.__module__.startswith("envs_suite.")


def test_a_maze_takes_amagos_arguments() -> None:
    """In AMAGO's order, where `goal_in_obs` comes before the shuffled actions; its other form is refused in words."""
    from amago.envs.builtin.mazerunner import MazeRunnerGymEnv

    assert MazeRunnerGymEnv(9, 1, 3, 50, True, True).rules.shuffle_actions
    assert not MazeRunnerGymEnv(9, 1, 3, 50, goal_in_obs=True).rules.shuffle_actions
    with pytest.raises(ConfigurationError, match=r"leave goal_in_obs out.*MazeGoalRelabeler"):
        MazeRunnerGymEnv(9, 1, 3, 50, goal_in_obs=False)


def test_unknown_names_are_attribute_errors() -> None:
    """As of any module."""
    with pytest.raises(ImportError, match="Nothing"):
        from amago.envs.builtin.tmaze import Nothing  # noqa: F401


def test_the_library_does_not_import_the_environments() -> None:
    """They are looked up when a name is used: `amago` alone stays without `envs_suite`."""
    modules = ", ".join(f"amago.envs.builtin.{m}" for m in NAMES)
    code = f"import sys, {modules}; print('envs_suite' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
