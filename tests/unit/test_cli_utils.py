"""Choosing parts by name, applying gin settings, and the errors for mistakes in them."""

from argparse import ArgumentParser

import gin
import pytest
from torch import nn

from amago.agent import Agent, Multigammas, MultiTaskAgent, binary_filter, exp_filter, register_agent
from amago.cli_utils import (
    add_common_cli,
    create_experiment_from_cli,
    switch_agent,
    switch_async_mode,
    switch_exploration,
    switch_step_encoder,
    switch_traj_encoder,
    switch_tstep_encoder,
    use_config,
)
from amago.envs.exploration import BilevelEpsilonGreedy, EpsilonGreedy
from amago.errors import ConfigurationError, DataError
from amago.gin_names import (
    configurable_names,
    explain_required,
    explains_required,
    parameters_of,
    without_gin,
)
from amago.nets.cnn import IMPALAishCNN
from amago.nets.traj_encoders import (
    FFTrajEncoder,
    GRUTrajEncoder,
    MambaTrajEncoder,
    TformerTrajEncoder,
    register_traj_encoder,
)
from amago.nets.transformer import SlidingWindowFlexAttention
from amago.nets.tstep_encoders import CNNTstepEncoder


@pytest.fixture(autouse=True)
def _fresh():
    gin.clear_config()
    yield
    gin.clear_config()


def write(path, text):
    path.write_text(text)
    return path


# -- the manual ------------------------------------------------------------------------------------


def test_manual_dict():
    """First block: values by full and by short name; a class as a value."""
    use_config(
        {
            "amago.nets.tstep_encoders.CNNTstepEncoder.cnn_type": IMPALAishCNN,
            "IMPALAishCNN.cnn_block_depths": [32, 64, 64],
        }
    )
    assert gin.get_bindings("CNNTstepEncoder")["cnn_type"] is IMPALAishCNN
    assert gin.get_bindings("IMPALAishCNN")["cnn_block_depths"] == [32, 64, 64]
    # a class is kept in the printed configuration too
    assert "CNNTstepEncoder.cnn_type = @amago.nets.cnn.IMPALAishCNN" in gin.config_str()


def test_manual_switches(tmp_path, monkeypatch):
    """The block that changes everything at once, and the one that adds files to it."""
    config = {
        "amago.nets.transformer.SlidingWindowFlexAttention.window_size": 128,
        "amago.nets.cnn.IMPALAishCNN.cnn_block_depths": [32, 64, 64],
    }
    chosen = [
        switch_step_encoder(config, arch="cnn", cnn_type=IMPALAishCNN),
        switch_traj_encoder(
            config,
            arch="transformer",
            d_model=512,
            d_ff=2048,
            n_heads=16,
            attention_type=SlidingWindowFlexAttention,
        ),
        switch_exploration(config, strategy="egreedy", eps_start=1.0, eps_end=0.01, steps_anneal=200_000),
        switch_agent(config, agent="multitask", num_critics=6, gamma=0.998),
    ]
    assert chosen == [CNNTstepEncoder, TformerTrajEncoder, EpsilonGreedy, MultiTaskAgent]
    use_config(config)
    assert gin.get_bindings("MultiTaskAgent") == {"num_critics": 6, "gamma": 0.998}
    assert gin.get_bindings("TformerTrajEncoder")["attention_type"] is SlidingWindowFlexAttention
    assert gin.get_bindings("EpsilonGreedy")["steps_anneal"] == 200_000

    monkeypatch.chdir(tmp_path)
    write(tmp_path / "environment_config.gin", "MultiTaskAgent.gamma = 0.5\nMultiTaskAgent.tau = 0.1\n")
    write(tmp_path / "rl_config.gin", "MultiTaskAgent.tau = 0.2\n")
    use_config(config, gin_configs=["environment_config.gin", "rl_config.gin"])
    found = gin.get_bindings("MultiTaskAgent")
    assert (found["num_critics"], found["gamma"], found["tau"]) == (6, 0.5, 0.2)
    assert switch_tstep_encoder is switch_step_encoder


# -- order and locking --------------------------------------------------------------------------------


def test_last_one_wins(tmp_path):
    """Dict, then files from left to right; references, macros, includes and imports work in files."""
    first = write(tmp_path / "a.gin", "Agent.tau = 0.1\nAgent.gamma = 0.1\nAgent.n_step = 2\n")
    inner = write(tmp_path / "inner.gin", "width = 7\nNCritics.d_hidden = %width\n")
    second = write(
        tmp_path / "b.gin",
        f"import amago.agent\ninclude '{inner}'\nAgent.gamma = 0.2\nAgent.fbc_filter_func = @exp_filter\n"
        "eval/Agent.tau = 0.9\nexp_filter:\n  beta = 3.0\n",
    )
    use_config({"Agent.tau": 0.0, "Agent.num_critics": 9}, [first, second])
    found = gin.get_bindings("Agent")
    assert (found["tau"], found["gamma"], found["num_critics"], found["n_step"]) == (0.1, 0.2, 9, 2)
    assert found["fbc_filter_func"] is exp_filter and gin.query_parameter("exp_filter.beta") == 3.0
    assert gin.get_bindings("NCritics", resolve_references=True)["d_hidden"] == 7


def test_a_macro_in_the_dict_is_for_files_to_use(tmp_path):
    """A name alone; a file that defines it too wins."""
    file = write(tmp_path / "a.gin", "NCritics.d_hidden = %width\nActor.d_hidden = %other\nother = 3\n")
    use_config({"width": 9, "other": 4}, [file])
    assert gin.get_bindings("NCritics", resolve_references=True)["d_hidden"] == 9
    assert gin.get_bindings("Actor", resolve_references=True)["d_hidden"] == 3


def test_finalize_locks_and_use_config_adds():
    """After finalize=True gin itself refuses changes; another use_config may add; finalize=False stays open."""
    use_config({"Agent.tau": 0.1}, finalize=False)
    gin.bind_parameter("Agent.tau", 0.2)
    use_config({"Agent.gamma": 0.3})
    with pytest.raises(RuntimeError):
        gin.bind_parameter("Agent.tau", 0.4)
    use_config({"Agent.tau": 0.5})
    assert gin.get_bindings("Agent") == {"tau": 0.5, "gamma": 0.3}
    assert gin.config_is_locked()


def test_every_configurable_is_built_from_a_file(tmp_path):
    """Each setting of this package's public rows can be set by its gin name, with and without the module."""
    rows = {
        "Multigammas": {"discrete", "continuous"},
        "binary_filter": {"threshold"},
        "exp_filter": {"beta", "clip_adv_low", "clip_adv_high", "clip_weights_low", "clip_weights_high"},
        "leaky_relu_filter": {
            *("beta", "tau", "neg_slope", "target_f0"),
            *("clip_weights_low", "clip_weights_high", "add_binary"),
        },
        "Agent": AGENT_SETTINGS,
        "MultiTaskAgent": AGENT_SETTINGS,
    }
    text = "".join(f"amago.agent.{name}.{p} = None\n" for name, ps in rows.items() for p in ps)
    use_config({f"{name}.{p}": 0 for name, ps in rows.items() for p in ps}, write(tmp_path / "all.gin", text))
    for name, settings in rows.items():
        assert gin.get_bindings(name) == dict.fromkeys(settings)


AGENT_SETTINGS = {
    *("num_critics", "num_critics_td", "online_coeff", "offline_coeff", "critic_loss_weight", "gamma"),
    *("reward_multiplier", "tau", "fake_filter", "num_actions_for_value_in_critic_loss", "n_step"),
    *("num_actions_for_value_in_actor_loss", "fbc_filter_func", "popart", "use_target_actor"),
    *("use_multigamma", "actor_type", "critic_type", "pass_obs_keys_to_actor"),
}


def test_a_file_reaches_constructors(tmp_path):
    """Bound values arrive in the object; values of the filter arrive in the function."""
    text = "Multigammas.discrete = [0.5]\nbinary_filter.threshold = 2.0\n"
    use_config(None, write(tmp_path / "a.gin", text))
    assert Multigammas().discrete == [0.5] and Multigammas().continuous[-1] == 0.995
    import torch

    assert binary_filter(torch.tensor([1.0, 3.0])).tolist() == [0.0, 1.0]


# -- mistakes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("Agnt.gamma", r"unknown gin name 'Agnt' \(in 'Agnt.gamma'\); did you mean Agent"),
        ("Agent.gama", r"Agent has no parameter 'gama' \(in 'Agent.gama'\); did you mean gamma"),
        ("amago.agents.Agent.gamma", r"unknown gin name .*; did you mean amago.agent.Agent\?"),
        ("eval/TformerTrajEncoder.n_head", r"did you mean n_heads"),
        ("Agent.self", r"no parameter 'self'"),
    ],
)
def test_unknown_names_in_a_dict(key, message):
    """The error names the mistake and the nearest known names; nothing was bound."""
    with pytest.raises(ConfigurationError, match=message):
        use_config({"Agent.tau": 0.1, key: 1})
    assert not gin.get_bindings("Agent") and not gin.config_is_locked()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "Agent.tau = 1\nAgent.gama = 1\n",
            r"Agent has no parameter 'gama' \(.*a.gin, line 2\); did you mean",
        ),
        ("\nAgentt.tau = 1\n", r"unknown gin name 'Agentt' \(.*a.gin, line 2\); did you mean Agent"),
        ("Agent.fbc_filter_func = @exp_filtr\n", r"unknown gin name 'exp_filtr' .*line 1.*exp_filter"),
        ("Agent.fbc_filter_func = [@exp_filtr]\n", r"unknown gin name 'exp_filtr'"),
        ("Agnt:\n  tau = 1\n", r"unknown gin name 'Agnt'"),
        ("Agent:\n  tua = 1\n", r"no parameter 'tua'.*did you mean tau"),
        ("import no_such_module\n", r"cannot import 'no_such_module' \(.*line 1\)"),
        ("Agent.tau = = 1\n", r"a.gin, line 1"),
        ("include 'nowhere.gin'\n", r"no gin file 'nowhere.gin'"),
        ("Agent.tau = %undefined\n", r"undefined"),
    ],
)
def test_mistakes_in_a_file(tmp_path, text, message):
    """One line: what is wrong, in which file and line, and what may have been meant."""
    good = write(tmp_path / "good.gin", "MultiTaskAgent.tau = 1.0\n")
    with pytest.raises(ConfigurationError, match=message) as caught:
        use_config({}, [good, write(tmp_path / "a.gin", text)])
    assert "\n" not in str(caught.value)


def test_missing_file_and_other_shapes(tmp_path):
    """A missing file is named; one path instead of a list is accepted; a key needs a parameter."""
    with pytest.raises(ConfigurationError, match=r"no gin file .*nowhere.gin"):
        use_config({}, [tmp_path / "nowhere.gin"])
    use_config({}, write(tmp_path / "a.gin", "Agent.tau = 1.0\n"))
    with pytest.raises(ConfigurationError, match="is not a gin setting"):
        use_config({"not a name": 1})
    assert gin.get_bindings("Agent") == {"tau": 1.0}


def test_unknown_short_names():
    """Registries answer with the nearest names."""
    with pytest.raises(ConfigurationError, match=r"unknown agent 'multi_task'; did you mean multitask"):
        switch_agent({}, "multi_task")
    with pytest.raises(ConfigurationError, match="unknown trajectory encoder"):
        switch_traj_encoder({}, "lstm-ish")


def test_required_settings():
    """A gin.REQUIRED setting that is missing: the error names it and shows the line to add."""
    want = r"BilevelEpsilonGreedy.rollout_horizon must be configured.*`BilevelEpsilonGreedy.rollout_horizon = ...`"
    with pytest.raises(ConfigurationError, match=want), explain_required():
        BilevelEpsilonGreedy(_Actors())
    use_config({"BilevelEpsilonGreedy.rollout_horizon": 50})
    with explain_required():
        assert BilevelEpsilonGreedy(_Actors()).rollout_horizon == 50
    with pytest.raises(RuntimeError, match="other"), explain_required():
        raise RuntimeError("other")


def test_required_settings_of_a_decorated_class():
    """With the class decorator the plain constructor gives that error, and gin still knows the class."""

    @explains_required
    @gin.configurable("NeedsTwo", module="tests")
    class NeedsTwo:
        def __init__(self, a, one=gin.REQUIRED, two=gin.REQUIRED):
            self.found = a, one, two

    with pytest.raises(ConfigurationError, match=r"`NeedsTwo.one = ...` and `NeedsTwo.two = ...`"):
        NeedsTwo(1)
    use_config({"NeedsTwo.one": 2, "NeedsTwo.two": 3})
    assert NeedsTwo(1).found == (1, 2, 3)
    assert "tests.NeedsTwo" in configurable_names() and parameters_of("tests.NeedsTwo") == ["a", "one", "two"]


def test_errors_are_one_line_again():
    """Gin appends the chain of calls to every error; a person gets the first line and the right class."""

    @gin.configurable("Fails", module="tests")
    def fails():
        raise DataError("what is wrong; the way out")

    with pytest.raises(DataError) as caught, explain_required():
        fails()
    assert str(caught.value) == "what is wrong; the way out" and type(caught.value) is DataError


def test_without_gin():
    """The function with what is bound now; others pass through."""
    import torch

    use_config({"binary_filter.threshold": 2.0})
    bare = without_gin(binary_filter)
    gin.clear_config()
    assert bare(torch.tensor([1.0, 3.0])).tolist() == [0.0, 1.0]
    assert without_gin(abs) is abs and without_gin(Agent) is Agent


class _Actors:
    batched_envs, discrete, multibinary = 2, True, False


# -- sizes of trajectory encoders --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arch", "cls", "want"),
    [
        ("transformer", TformerTrajEncoder, {"d_model": 64, "d_ff": 256, "n_layers": 2}),
        ("rnn", GRUTrajEncoder, {"d_hidden": 64, "d_output": 64, "n_layers": 2}),
        ("ff", FFTrajEncoder, {"d_model": 64, "n_layers": 2}),
        ("mamba", MambaTrajEncoder, {"d_model": 64, "n_layers": 2}),
    ],
)
def test_memory_size_and_layers(arch, cls, want):
    """Each architecture's own names; both may be left out."""
    config = {}
    assert switch_traj_encoder(config, arch, memory_size=64, layers=2) is cls
    assert config == {f"amago.nets.traj_encoders.{cls.__name__}.{k}": v for k, v in want.items()}
    use_config(config)
    config = {}
    switch_traj_encoder(config, arch)
    assert config == {}


def test_explicit_sizes_win():
    """Keywords over memory_size; d_ff follows the width that results; identity has no size."""
    config = {}
    switch_traj_encoder(config, "transformer", memory_size=64, layers=2, d_model=32, n_layers=5)
    assert {k.rsplit(".", 1)[1]: v for k, v in config.items()} == {"d_model": 32, "d_ff": 128, "n_layers": 5}
    config = {}
    switch_traj_encoder(config, "transformer", memory_size=64, d_ff=7)
    assert config["amago.nets.traj_encoders.TformerTrajEncoder.d_ff"] == 7
    config = {}
    switch_traj_encoder(config, "identity", memory_size=64, layers=2)
    assert config == {}


def test_a_users_own_parts():
    """Registered classes work by name; ones that gin does not know cannot be given settings."""

    @gin.configurable("Mine", module="tests")
    @register_traj_encoder("mine")
    class Mine(nn.Module):
        def __init__(self, tstep_dim, max_seq_len, d_model=1, taps=2):
            super().__init__()

    config = {}
    assert switch_traj_encoder(config, "mine", memory_size=8, taps=3) is Mine
    assert config == {"tests.Mine.d_model": 8, "tests.Mine.taps": 3}
    with pytest.raises(ConfigurationError, match="has no 'n_layers', so layers cannot set it"):
        switch_traj_encoder(config, "mine", layers=2)

    @register_agent("mine")
    class Plain(Agent):
        pass

    assert switch_agent({}, "mine") is Plain
    with pytest.raises(ConfigurationError, match="Plain is not gin-configurable"):
        switch_agent({}, "mine", tau=0.1)


# -- command line --------------------------------------------------------------------------------------


class _Experiment:
    """Stands in for the real one: notes its keywords."""

    def __init__(self, **settings):
        self.settings = settings
        self.__dict__.update(settings)


def test_command_line():
    """Options become Experiment keywords under its own names; explicit keywords win."""
    import inspect

    from amago import Experiment

    args = add_common_cli(ArgumentParser()).parse_args(
        ["--parallel_actors", "3", "--updates_per_epoch", "5", "--seed", "7", "--agent_type", "multitask"]
    )
    parts = dict(agent_type=Agent, tstep_encoder_type=CNNTstepEncoder, traj_encoder_type=GRUTrajEncoder)
    experiment = create_experiment_from_cli(
        args,
        make_train_env=list,
        make_val_env=list,
        max_seq_len=9,
        group_name="group",
        run_name="run",
        traj_save_len=50,
        experiment_type=_Experiment,
        dataset="mine",
        epochs=2,
        **parts,
    )
    found = experiment.settings
    assert (found["parallel_actors"], found["train_batches_per_epoch"], found["seed"]) == (3, 5, 7)
    assert (found["epochs"], found["traj_save_len"], found["dataset"]) == (2, 50, "mine")
    assert found["exploration_wrapper_type"] is EpsilonGreedy and found["wandb_group_name"] == "group"
    known = inspect.signature(Experiment).parameters
    assert set(found) <= set(known)
    assert args.agent_type == "multitask"


@pytest.mark.parametrize("before", [True, False])
def test_a_scripts_own_number_of_batches_counts(before):
    """Whichever of the option's two names the script takes for itself."""
    parts = dict(agent_type=Agent, tstep_encoder_type=CNNTstepEncoder, traj_encoder_type=GRUTrajEncoder)
    for name in ("--batches_per_epoch", "--updates_per_epoch"):
        parser = ArgumentParser()
        if not before:
            add_common_cli(parser)
        parser.add_argument(name, type=int, default=7)
        if before:
            add_common_cli(parser)
        args = parser.parse_args([])
        run = create_experiment_from_cli(
            args, list, list, 9, "group", "run", experiment_type=_Experiment, dataset="mine", **parts
        )
        assert run.train_batches_per_epoch == 7, name


@pytest.mark.parametrize("before", [True, False])
def test_a_scripts_own_options_count(before):
    """Scripts of AMAGO add options that are common here: no conflict, and theirs keep type and default."""
    parser = ArgumentParser()
    if not before:
        add_common_cli(parser)
    parser.add_argument("--eval_timesteps", type=float, default=1.5)
    parser.add_argument("--env", required=True)
    if before:
        add_common_cli(parser)
    args = parser.parse_args(
        [
            "--env",
            "e",
            "--run_name",
            "r",
            "--buffer_dir",
            "b",
            "--no_log",
            "--batches_per_epoch",
            "3",
            "--timesteps_per_epoch",
            "0",
            "--ckpt",
            "4",
            "--env_mode",
            "already_vectorized",
            "--mixed_precision",
            "bf16",
            "--dloader_workers",
            "0",
            "--start_learning_at_epoch",
            "2",
        ]
    )
    assert (args.eval_timesteps, args.batches_per_epoch, args.ckpt, args.log) == (1.5, 3, 4, False)
    parts = dict(agent_type=Agent, tstep_encoder_type=CNNTstepEncoder, traj_encoder_type=GRUTrajEncoder)
    run = create_experiment_from_cli(
        args, list, list, 9, "group", "run", experiment_type=_Experiment, dataset="mine", **parts
    )
    assert (run.train_timesteps_per_epoch, run.train_batches_per_epoch, run.log_to_wandb) == (0, 3, False)
    assert (run.mixed_precision, run.dloader_workers, run.start_learning_at_epoch) == ("bf16", 0, 2)


def test_async_modes():
    """A collector never learns or deletes, a learner never acts; both needs nothing."""
    collect = switch_async_mode(_Experiment(), "collect")
    assert collect.train_batches_per_epoch == 0 and collect.always_load_latest
    assert not collect.has_dset_edit_rights and not collect.always_save_latest
    learn = switch_async_mode(_Experiment(), "learn")
    assert learn.start_collecting_at_epoch > 10**9 and learn.always_save_latest
    assert vars(switch_async_mode(_Experiment(), "both")) == {"settings": {}}
    # Some scripts of AMAGO pass all of their options.
    options = add_common_cli(ArgumentParser()).parse_args(["--mode", "learn"])
    assert vars(switch_async_mode(_Experiment(), options)) == vars(learn)
    with pytest.raises(ConfigurationError, match="unknown mode 'train'"):
        switch_async_mode(_Experiment(), "train")
