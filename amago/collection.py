"""The experiment's actors at work: collecting, validating, testing, and preparing batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader, Dataset

from amago.envs.actors import Actors
from amago.envs.exploration import ExplorationWrapper
from amago.errors import EnvironmentFailure
from amago.loading import Batch
from amago.rollout import Episode, Recorder, Rollout
from amago.seeding import SeedTree
from amago.storage import write_shard

if TYPE_CHECKING:
    from amago.experiment_parts import ExperimentParts

#: Steps of each actor after which a test of whole episodes is given up: they do not end.
MAX_TEST_STEPS = 10_000_000


class Collector:
    """Training and validation rollouts of one experiment."""

    def __init__(
        self,
        experiment: ExperimentParts,
        train_envs: Actors,
        exploration: ExplorationWrapper | None,
        val_envs: Actors,
    ) -> None:
        self.experiment = experiment
        self.train = Rollout(train_envs, exploration)
        self.val = Rollout(val_envs)
        self._other: Rollout | None = None
        self._interactions = 0

    def _begin_segment(self) -> None:
        x = self.experiment
        segment = x.segment
        low, high = x.traj_save_len, x.traj_save_len
        if x.stagger_traj_file_lengths:
            # Cuts that always fall at multiples would leave sequences across them unseen.
            low, high = max(low - x.max_seq_len, 1), high + x.max_seq_len
        lengths = x.own_seeds.generator("save-length", segment)
        recorder = Recorder(self.train.actors, lambda: int(lengths.integers(low, high + 1)))
        self.train.exploration.rng = x.own_seeds.generator("exploration", segment)
        self.train.begin(
            x.policy,
            x.DEVICE,
            seed_for=lambda actor, episode: x.own_seeds.integer("train-reset", segment, actor, episode),
            recorder=recorder,
        )

    def collect(self, check_stop: Callable[[], None]) -> list[Episode]:
        """One epoch of training rollouts into the dataset."""
        x = self.experiment
        every = x.force_reset_train_envs_every
        if not self.train.begun or (every and x.epoch % every == 0):
            self._begin_segment()
        x.policy.eval()
        x.own_seeds.seed_torch("act", x.epoch)
        episodes: list[Episode] = []
        for _ in range(x.train_timesteps_per_epoch):
            check_stop()
            episodes += self.train.step(x.policy, x.sample_actions_train)
        if every and (x.epoch + 1) % every == 0:
            self.train.cut_trajectories()
        x.env_steps += x.train_timesteps_per_epoch * self.train.actors.batched_envs * x.processes.count
        self.store()
        if x.processes.several:
            x.processes.wait()
            x.dataset.refresh()
        x.tracker.log("buffer", x.dataset.on_end_of_collection(x), x._counters())
        return episodes

    def store(self, between: bool = False) -> None:
        """Put the trajectories that are done into the dataset.

        Args:
            between: not at an epoch's end, whose file has the epoch's name.
        """
        x = self.experiment
        assert self.train.recorder is not None
        trajectories, names = self.train.recorder.take()
        folder = x.dataset.save_new_trajs_to
        if folder is None:
            return
        name = f"{x.epoch:08d}"
        if between:
            index = 0
            # A dataset may add to the name: another process's, a trajectory's number.
            while any(Path(folder).glob(f"{name}-{index:04d}*")):
                index += 1
            name = f"{name}-{index:04d}"
        x.dataset.add(name, trajectories, names, x.action_format)

    def validate(self, check_stop: Callable[[], None]) -> list[Episode]:
        """One validation, from fresh resets that depend on the epoch alone."""
        x = self.experiment
        epoch = x.epoch
        x.policy.eval()
        x.seeds.seed_torch("validate", epoch)
        self.val.begin(
            x.policy,
            x.DEVICE,
            seed_for=lambda actor, episode: x.seeds.integer("val-reset", epoch, actor, episode),
        )
        episodes: list[Episode] = []
        for _ in range(x.val_timesteps_per_epoch):
            check_stop()
            episodes += self.val.step(x.policy, x.sample_actions_val)
        return episodes

    def test(
        self,
        actors: Actors,
        timesteps: int | None,
        episodes_per_actor: int | None,
        tree: SeedTree,
        sample: bool,
        render: bool,
        save_trajs_to: Path | None,
    ) -> list[Episode]:
        """Episodes of the present policy; see ``Experiment.evaluate_test``."""
        x = self.experiment
        n = actors.batched_envs
        x.policy.eval()
        tree.seed_torch("test")
        rollout = Rollout(actors)
        recorder = Recorder(actors, lambda: x.traj_save_len) if save_trajs_to else None
        rollout.begin(
            x.policy,
            x.DEVICE,
            seed_for=lambda actor, episode: tree.integer("test-reset", actor, episode),
            task_for=lambda actor, episode: episode * n + actor,
            recorder=recorder,
        )
        episodes: list[Episode] = []
        done = [0] * n
        for _ in range(MAX_TEST_STEPS if timesteps is None else timesteps):
            for episode in rollout.step(x.policy, sample):
                # An actor that is done keeps stepping beside the others; its further episodes
                # would favour short ones and do not count.
                if episodes_per_actor is None or done[episode.actor] < episodes_per_actor:
                    episodes.append(episode)
                done[episode.actor] += 1
            if render:
                actors.render()
            if episodes_per_actor is not None and min(done) >= episodes_per_actor:
                break
        else:
            if timesteps is None:
                raise EnvironmentFailure(
                    f"{actors.env_names[done.index(min(done))]}: {MAX_TEST_STEPS:,} steps brought {min(done)} of "
                    f"{episodes_per_actor} episodes of an actor to their end; give its episodes a time limit, or pass "
                    "timesteps to evaluate_test"
                )
        if save_trajs_to is not None and recorder is not None:
            rollout.cut_trajectories()
            trajectories, names = recorder.take()
            save_trajs_to.mkdir(parents=True, exist_ok=True)
            write_shard(save_trajs_to / "test.safetensors", trajectories, names, actors.action_format)
        return episodes

    def interact(
        self,
        actors: Actors,
        timesteps: int,
        hidden_state: Any,
        render: bool,
        save_on_done: bool,
        episodes: int | None,
        check_stop: Callable[[], None],
    ) -> tuple[Any, list[Episode]]:
        """Steps of any actors; see ``Experiment.interact``. Returns the hidden state and finished episodes."""
        x = self.experiment
        rollout = self._rollout_of(actors)
        x.policy.eval()
        trains = rollout is self.train
        if hidden_state is not None and rollout.begun:
            rollout.hidden_state = hidden_state
        elif trains:
            if rollout.begun:
                rollout.cut_trajectories()
                self.store(between=True)
            self._begin_segment()
        else:
            count = self._interactions
            self._interactions += 1
            rollout.begin(
                x.policy,
                x.DEVICE,
                seed_for=lambda actor, episode: x.own_seeds.integer("interact-reset", count, actor, episode),
            )
        found: list[Episode] = []
        for _ in range(timesteps):
            check_stop()
            found += rollout.step(x.policy, x.sample_actions_train if trains else x.sample_actions_val)
            x.env_steps += actors.batched_envs * x.processes.count if trains else 0
            if render:
                actors.render()
            if episodes is not None and len(found) >= episodes:
                break
        if trains and save_on_done:
            self.store(between=True)
        return rollout.hidden_state, found

    def _rollout_of(self, actors: Actors) -> Rollout:
        for known in (self.train, self.val, self._other):
            if known is not None and known.actors is actors:
                return known
        self._other = Rollout(actors)
        return self._other

    def batches(self, epoch: int, start: int) -> Iterator[tuple[int, Batch]]:
        """Batches ``start`` onwards of an epoch, each drawn from a stream of its own.

        So the number of loader processes, and where a run was interrupted, change nothing.
        """
        x = self.experiment
        source = _EpochBatches(x, epoch)
        indices = range(start, x.train_batches_per_epoch)
        if x.dloader_workers == 0:
            for i in indices:
                yield i, source[i]
            return
        loader: DataLoader = DataLoader(
            source,
            sampler=list(indices),
            batch_size=None,
            num_workers=x.dloader_workers,
            collate_fn=_as_it_is,
            # Workers seed their global generators from it: a user's dataset may draw from those, and must
            # not draw the same in every epoch.
            generator=torch.Generator().manual_seed(x.own_seeds.integer("loader", epoch, start)),
        )
        yield from zip(indices, loader, strict=True)


class _EpochBatches(Dataset):
    def __init__(self, experiment: ExperimentParts, epoch: int) -> None:
        self.dataset, self.seeds, self.epoch = experiment.dataset, experiment.own_seeds, epoch
        self.shape = (experiment.batch_size, experiment.max_seq_len, experiment.padded_sampling)

    def __len__(self) -> int:
        return 2**31

    def __getitem__(self, index: int) -> Batch:
        rng = self.seeds.generator("replay", self.epoch, index)
        return self.dataset.sample_batch(rng, *self.shape)


def _as_it_is(batch: Any) -> Any:
    return batch
