"""Every family but the core: its environments as declared, and one of them trained, in the family's own environment."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import envs_suite
from amago.errors import ConfigurationError
from amago_suite.exits import DONE
from amago_suite.families import check_environments, environment_folder, python_of
from amago_suite.folders.prepare import prepare
from amago_suite.grid import plan

ROOT = Path(__file__).parents[2]
FAMILIES = sorted(path.parent.name for path in ROOT.glob("containers/*/requirements.in"))
FAMILIES.remove("core")

#: family -> the environment that is trained, its parameters, and bindings that keep it small.
TRAINED: dict[str, tuple[str, dict, str]] = {
    "atari": (
        "atari-multi-game",
        {"frames": 480},
        "Experiment.max_seq_len = 16\nExperiment.traj_save_len = 40\n",
    ),
    "jax": ("gymnax-catch", {}, ""),
    "labyrinth": ("popgym-labyrinth-escape-easy", {}, ""),
    "metaworld": ("metaworld-ml1", {"attempts": 1}, ""),
    "nethack": ("minihack-room-5x5", {}, "Experiment.traj_save_len = 100\n"),
    "offline": (
        "offline-pendulum",
        {},
        "Experiment.start_collecting_at_epoch = 2\nExperiment.max_seq_len = 32\nExperiment.batch_size = 8\n",
    ),
    "procgen": ("procgen-multi-game", {"games": "memory", "mode": "memory"}, "Experiment.max_seq_len = 16\n"),
}
SMALL = """
Experiment.parallel_actors = 2
Experiment.train_timesteps_per_epoch = 40
Experiment.train_batches_per_epoch = 2
Experiment.batch_size = 2
Experiment.max_seq_len = 64
Experiment.val_interval = None
"""
EPOCHS = 3

pytestmark = [pytest.mark.slow, pytest.mark.family]


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    """A family that is wanted and installed."""
    wanted = request.config.getoption("family")
    if wanted and request.param not in wanted:
        pytest.skip("left out by --family")
    if not (environment_folder(request.param) / "stamp").is_file():
        message = f"needs the family {request.param}: make family-{request.param}"
        if "family" in request.config.getoption("require"):
            pytest.fail(message, pytrace=False)
        pytest.skip(message)
    return request.param


def test_every_environment_is_as_declared(family: str) -> None:
    """Guards each entry: 1,000 random steps, one seed one episode, spaces, horizon, metric, fixed evaluation tasks."""
    command = [str(python_of(family)), "-W", "ignore", str(ROOT / "tests/families/in_family.py"), family]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert set(found) == {i for i in envs_suite.ids() if envs_suite.get(i).family == family}
    assert {env_id: error for env_id, error in found.items() if error} == {}


def test_what_only_this_family_has(family: str) -> None:
    """Guards what a family's script of its own checks: missing ROMs, attempts at one level, ends of a dungeon."""
    script = ROOT / f"tests/families/special_{family}.py"
    if not script.is_file():
        pytest.skip(f"the family {family} has no checks of its own")
    command = [str(python_of(family)), "-W", "ignore", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found
    assert {name: error for name, error in found.items() if error} == {}


def test_a_missing_rom_is_told_before_anything_starts(family: str, tmp_path: Path) -> None:
    """Guards `amago-suite run`: the family's own Python is asked for the files that only its package can find."""
    if family != "atari":
        pytest.skip("only stable-retro has files of the user's")
    suite = tmp_path / "consoles.yaml"

    def check(game: str, state: str = "") -> None:
        params = json.dumps({"game": game, "state": state})
        suite.write_text(
            f"environments:\n  - {{ id: retro, params: {params} }}\narchitectures: [ff]\nseeds: [0]\n"
            "budget: { epochs: 1 }\n"
        )
        check_environments(plan(str(suite), results=tmp_path / "results").environments, suite.name)

    check("Airstriker-Genesis-v0")
    for game, state, said in (
        ("1942-Nes-v0", "", r"the ROM of '1942-Nes-v0' is missing.*stable_retro\.import FOLDER$"),
        ("Airstrike-Genesis-v0", "", "did you mean Airstriker-Genesis-v0"),
        ("Airstriker-Genesis-v0", "Level9", "has no state 'Level9'.*Level1"),
    ):
        with pytest.raises(
            ConfigurationError, match=f"^consoles\\.yaml: environment 'retro': .*{said}"
        ) as caught:
            check(game, state)
        assert "\n" not in str(caught.value)


def test_a_cell_is_trained_and_evaluated_by_its_familys_python(family: str, tmp_path: Path) -> None:
    """Guards the way from `amago-suite train` in the core's environment to a policy and episodes of another family."""
    env_id, params, gin = TRAINED[family]
    lines = "\n".join("  " + line for line in (SMALL + gin).strip().splitlines())
    suite = tmp_path / "tiny.yaml"
    suite.write_text(
        f"environments:\n  - id: {env_id}\n    params: {json.dumps(params)}\narchitectures: [ff]\nseeds: [0]\n"
        f"budget: {{ epochs: {EPOCHS} }}\nevaluation: {{ episodes: 2, actors: 2 }}\ngin: |\n{lines}\n"
    )
    grid = plan(str(suite), results=tmp_path / "results")
    prepare(grid)
    cell = grid.cells[0]
    for word in ("train", "evaluate"):
        command = [sys.executable, "-m", "amago_suite", word, str(cell.folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == DONE, done.stdout[-2000:] + done.stderr[-2000:]
    assert len(cell.progress.read_text().splitlines()) == EPOCHS + 1
    assert len(cell.episodes.read_text().splitlines()) == 2 + 1
    # Only the family's own interpreter can have imported what the environment needs.
    for module in envs_suite.get(env_id).requires:
        code = f"import importlib.util as u; print(u.find_spec({module!r}) is not None)"
        here = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        if here.strip() == "False":
            break
    else:
        pytest.skip(f"{env_id} could have been trained by the core's Python too")
