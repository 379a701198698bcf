"""Every code block of the manual's page on configuration runs as it is written there.

Only what the page leaves open is filled in: `...`, and names that a block uses without importing them.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gin
import gymnasium as gym
import numpy as np
import pytest
import torch

import amago
from amago import cli_utils
from amago.agent import Agent, MultiTaskAgent
from amago.envs import EpsilonGreedy
from amago.envs.amago_env import AMAGOEnv
from amago.loading import DiskTrajDataset
from amago.nets.cnn import IMPALAishCNN, NatureishCNN
from amago.nets.traj_encoders import TformerTrajEncoder
from amago.nets.transformer import SlidingWindowFlexAttention
from amago.nets.tstep_encoders import CNNTstepEncoder

PAGE = Path(__file__).parents[2] / "reference/configure.rst"


def blocks() -> list[str]:
    """The page's code blocks, in order."""
    found = re.findall(r"\.\. code-block:: python\n\n((?:    .*\n|\n)+)", PAGE.read_text())
    return [textwrap.dedent(block) for block in found]


class Picture(gym.Env):
    """Three steps in front of an image."""

    observation_space = gym.spaces.Box(0, 255, (40, 40, 3), np.uint8)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.np_random.integers(0, 256, (40, 40, 3), np.uint8), {}

    def step(self, action):
        self.t += 1
        return self.np_random.integers(0, 256, (40, 40, 3), np.uint8), float(action), self.t == 3, False, {}


@pytest.fixture(autouse=True)
def _fresh_configuration() -> Iterator[None]:
    torch.set_num_threads(1)
    gin.clear_config()
    yield
    gin.clear_config()


def run(number: int, folder: Path, **names: Any) -> dict[str, Any]:
    """Run a block; returns its names. Settings that a block does not name are small."""
    code = blocks()[number]
    code = code.replace("AMAGOEnv(...)", 'AMAGOEnv(Picture(), "picture")')
    code = code.replace("DiskTrajDataset(...)", 'DiskTrajDataset(dset_root, "replay", 10)')
    code = re.sub(r"^( +)\.\.\.$", r"\1**small(locals()),", code, flags=re.MULTILINE)
    assert "..." not in re.sub(r"#.*", "", code)

    def make_env() -> AMAGOEnv:
        return AMAGOEnv(Picture(), "picture")

    def small(given: dict[str, Any]) -> dict[str, Any]:
        """The rest of Experiment's arguments: those that the block's call does not have."""
        call = code[code.index("Experiment(") :]
        settings = {
            "run_name": "run",
            "ckpt_base_dir": folder,
            "max_seq_len": 140,
            "dataset": DiskTrajDataset(folder, "replay", 10),
            "tstep_encoder_type": CNNTstepEncoder,
            "traj_encoder_type": TformerTrajEncoder,
            "agent_type": Agent,
            "exploration_wrapper_type": EpsilonGreedy,
            "make_train_env": make_env,
            "make_val_env": make_env,
            "val_timesteps_per_epoch": 4,
            "env_mode": "sync",
            "parallel_actors": 2,
            "epochs": 1,
            "train_timesteps_per_epoch": 4,
            "train_batches_per_epoch": 1,
            "batch_size": 2,
            "dloader_workers": 0,
            "seed": 0,
            "verbose": False,
        }
        return {k: v for k, v in settings.items() if not re.search(rf"\b{k}=", call)}

    # What the page's blocks use and forget to import.
    forgotten = {
        "Experiment": amago.Experiment,
        "DiskTrajDataset": DiskTrajDataset,
        "CNNTstepEncoder": CNNTstepEncoder,
        "TformerTrajEncoder": TformerTrajEncoder,
        "Agent": Agent,
        "EpsilonGreedy": EpsilonGreedy,
        "switch_step_encoder": cli_utils.switch_step_encoder,
        "use_config": cli_utils.use_config,
    }
    space = {**forgotten, "Picture": Picture, "dset_root": folder, "small": small, **names}
    exec(compile(code, f"{PAGE.name}, block {number + 1}", "exec"), space)
    return space


def learn(experiment: amago.Experiment) -> amago.Experiment:
    experiment.start()
    experiment.learn()
    assert experiment.gradient_steps == 1
    return experiment


def test_the_page_has_the_blocks_that_are_tested_here() -> None:
    """A block that is added must be run too."""
    assert len(blocks()) == 5


def test_the_general_form_of_a_training_script(tmp_path: Path) -> None:
    """Block 1: environment, dataset, choices, experiment; start, learn, evaluate_test."""
    gin.parse_config(
        "TformerTrajEncoder.n_layers = 1\nTformerTrajEncoder.d_model = 32\nTformerTrajEncoder.d_ff = 32"
    )
    experiment = run(0, tmp_path)["experiment"]
    assert experiment.gradient_steps == 1 and experiment.env_steps == 8
    assert isinstance(experiment.policy.tstep_encoder, CNNTstepEncoder)
    assert isinstance(experiment.policy.tstep_encoder.cnn, NatureishCNN)


def test_a_larger_cnn(tmp_path: Path) -> None:
    """Block 2: `CNNTstepEncoder.cnn_type` and the depths of its IMPALA blocks."""
    gin.parse_config(
        "TformerTrajEncoder.n_layers = 1\nTformerTrajEncoder.d_model = 32\nTformerTrajEncoder.d_ff = 32"
    )
    policy = learn(run(1, tmp_path)["experiment"]).policy
    cnn = policy.tstep_encoder.cnn
    assert isinstance(cnn, IMPALAishCNN)
    assert {m.out_channels for m in cnn.modules() if isinstance(m, torch.nn.Conv2d)} == {32, 64}


def _check_attention(policy: Any) -> None:
    layers = policy.traj_encoder.tformer.layers
    for layer in layers:
        attention = layer.attention_layer.self_attention
        assert isinstance(attention, SlidingWindowFlexAttention) and attention.window_size == 128
    assert policy.traj_encoder.emb_dim == 512


def test_a_transformer_with_a_window(tmp_path: Path) -> None:
    """Block 3: sizes, heads and sliding windows; `config.txt` has them."""
    experiment = learn(run(2, tmp_path)["experiment"])
    _check_attention(experiment.policy)
    text = (tmp_path / "run/config.txt").read_text()
    for line in ("TformerTrajEncoder.n_heads = 16", "SlidingWindowFlexAttention.window_size = 128"):
        assert line in text


def test_the_shorter_way_to_say_all_of_it(tmp_path: Path) -> None:
    """Block 4: `switch_*` with parts by name."""
    experiment = learn(run(3, tmp_path)["experiment"])
    _check_attention(experiment.policy)
    policy = experiment.policy
    assert isinstance(policy, MultiTaskAgent) and policy.num_critics == 6
    assert float(policy.gammas.reshape(-1)[-1]) == pytest.approx(0.998)
    assert isinstance(policy.tstep_encoder.cnn, IMPALAishCNN)
    exploration = experiment.collector.train.exploration
    assert (exploration.eps_start, exploration.eps_end, exploration.steps_anneal) == (1.0, 0.01, 200_000)


def test_gin_files_after_the_dict_and_from_left_to_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Block 5: the last one wins."""
    monkeypatch.chdir(tmp_path)
    Path("environment_config.gin").write_text("Agent.gamma = 0.9\nAgent.tau = 0.5\n")
    Path("rl_config.gin").write_text("Agent.tau = 0.25\n")
    run(4, tmp_path, config={"Agent.gamma": 0.1, "Agent.num_critics": 3})
    found = [gin.query_parameter(f"Agent.{name}") for name in ("num_critics", "gamma", "tau")]
    assert found == [3, 0.9, 0.25]
