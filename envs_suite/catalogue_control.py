"""Registry entries of simulated bodies and vehicles: gymnasium's own, and the cheetah with a hidden target."""

from __future__ import annotations

from typing import Any

from amago.errors import ConfigurationError
from envs_suite.random_scores import RANDOM_SCORES
from envs_suite.registry import EnvSpec, Param, Params, Score, Split, register

# -- HalfCheetah with a hidden target velocity -------------------------------------------------------


def _check_cheetah(params: Params) -> None:
    if params["min_velocity"] >= params["max_velocity"]:
        raise ConfigurationError(
            "environment 'half-cheetah-velocity': parameter 'min_velocity' must be below 'max_velocity' "
            f"({params['max_velocity']:g}), got {params['min_velocity']:g}"
        )
    from envs_suite.half_cheetah import check_range

    try:
        check_range(params["min_velocity"], params["max_velocity"])
    except ConfigurationError as error:
        raise ConfigurationError(f"environment 'half-cheetah-velocity': {error}") from error


def _still(low: float, high: float) -> tuple[float, float, str]:
    """Bounds of the velocity error for targets from ``low`` to ``high``."""
    source = "no error, and the mean error (m/s) of standing still with targets uniform on"
    return 0.0, (low + high) / 2, f"{source} {low:g} to {high:g}"


def _make_cheetah(params: dict[str, Any], num_envs: int, split: Split) -> Any:
    from envs_suite.half_cheetah import HalfCheetahVelocityVector

    return HalfCheetahVelocityVector(
        num_envs,
        task_min_velocity=params["min_velocity"],
        task_max_velocity=params["max_velocity"],
        steps=params["steps"],
        split=split,
    )


register(
    EnvSpec(
        id="half-cheetah-velocity",
        family="core",
        description="HalfCheetah runs at a target velocity that only rewards tell (Finn et al. 2017).",
        licence="MIT (this project, gymnasium), Apache-2.0 (mujoco)",
        parameters={
            "min_velocity": Param(0.0, "least target velocity, m/s", 0, 20),
            "max_velocity": Param(3.0, "greatest target velocity, m/s", 0, 20),
            "steps": Param(1000, "steps of an episode, 0.05 s each", 1, 100_000),
        },
        check_together=_check_cheetah,
        score=Score("velocity_error", "lower", *_still(0.0, 3.0)),
        bounds_of=lambda p: _still(p["min_velocity"], p["max_velocity"]),
        horizon_of=lambda p: p["steps"],
        factory=_make_cheetah,
        vectorised=True,
        samples_tasks=True,
        best_possible=0.0,
        random_score=RANDOM_SCORES.get("half-cheetah-velocity"),
        requires=("mujoco",),
    )
)


# -- gymnasium's own -------------------------------------------------------------------------------------

#: id's ending -> (gymnasium's id, steps, upper bound of the return, where that comes from, module it needs).
GYMNASIUM: dict[str, tuple[str, int, float, str, str]] = {
    "acrobot": ("Acrobot-v1", 500, -100.0, "", ""),
    "cartpole": ("CartPole-v1", 500, 500.0, "the longest episode", ""),
    "mountain-car": ("MountainCar-v0", 200, -110.0, "", ""),
    "mountain-car-continuous": ("MountainCarContinuous-v0", 999, 90.0, "", ""),
    "pendulum": ("Pendulum-v1", 200, 0.0, "no cost, which the swing up always has", ""),
    "bipedal-walker": ("BipedalWalker-v3", 1600, 300.0, "", "Box2D"),
    "bipedal-walker-hardcore": ("BipedalWalkerHardcore-v3", 2000, 300.0, "", "Box2D"),
    "lunar-lander": ("LunarLander-v3", 1000, 200.0, "", "Box2D"),
    "lunar-lander-continuous": ("LunarLanderContinuous-v3", 1000, 200.0, "", "Box2D"),
    "ant": ("Ant-v5", 1000, 6000.0, "", "mujoco"),
    "half-cheetah": ("HalfCheetah-v5", 1000, 4800.0, "", "mujoco"),
    "hopper": ("Hopper-v5", 1000, 3800.0, "", "mujoco"),
    "humanoid": (
        "Humanoid-v5",
        1000,
        5000.0,
        "the reward for not falling, 5 in each of 1,000 steps",
        "mujoco",
    ),
    "inverted-double-pendulum": ("InvertedDoublePendulum-v5", 1000, 9100.0, "", "mujoco"),
    "inverted-pendulum": ("InvertedPendulum-v5", 1000, 950.0, "", "mujoco"),
    "pusher": ("Pusher-v5", 100, 0.0, "", "mujoco"),
    "reacher": ("Reacher-v5", 50, -3.75, "", "mujoco"),
    "swimmer": ("Swimmer-v5", 1000, 360.0, "", "mujoco"),
    "walker2d": (
        "Walker2d-v5",
        1000,
        1000.0,
        "the reward for not falling, 1 in each of 1,000 steps",
        "mujoco",
    ),
}
_LICENCES = {"": "MIT (gymnasium)", "Box2D": "MIT (gymnasium), zlib (box2d)"}


def _any_first(space: Any) -> Any:
    """A box of one dimension whose first number may be any."""
    from gymnasium.spaces import Box

    low, high = space.low.copy(), space.high.copy()
    low[0], high[0] = -float("inf"), float("inf")
    return Box(low, high, dtype=space.dtype)


def _gymnasium(name: str) -> EnvSpec:
    gym_id, steps, high, why, module = GYMNASIUM[name]
    env_id = f"gym-{name}"
    random_score = RANDOM_SCORES.get(env_id)

    def horizon_of(params: Params) -> int:
        return steps

    def factory(params: dict[str, Any], num_envs: int, split: Split) -> Any:
        import gymnasium as gym

        from envs_suite.rebuilt import Rebuilt

        if module == "Box2D":
            env = Rebuilt(lambda: gym.make(gym_id, disable_env_checker=True))
            if name.startswith("bipedal-walker"):
                # It declares angles up to pi, and rolls over.
                env.observation_space = _any_first(env.observation_space)
            return env
        return gym.make(gym_id, disable_env_checker=True)

    return EnvSpec(
        id=env_id,
        family="core",
        description=f"gymnasium's {gym_id}.",
        licence=_LICENCES.get(module, "MIT (gymnasium), Apache-2.0 (mujoco)"),
        score=Score(
            "return",
            "higher",
            0.0 if random_score is None else random_score.mean,
            high,
            f"uniformly random actions (measured here), and {why or 'the return at which gymnasium calls it solved'}",
        ),
        horizon_of=horizon_of,
        factory=factory,
        best_possible=500.0 if name == "cartpole" else None,
        random_score=random_score,
        requires=(module,) if module else (),
    )


for _name in GYMNASIUM:
    register(_gymnasium(_name))
