"""How an `Experiment` stops, saves itself, and goes on."""

from __future__ import annotations

import time
from pathlib import Path

from amago import resume
from amago.checkpoints import CheckpointStore, Position
from amago.errors import ConfigurationError, TrainingInterrupted
from amago.experiment_parts import ExperimentParts
from amago.files import link_or_copy
from amago.interrupts import StopRequest
from amago.policy_files import load_policy_weights, save_policy_weights


class ExperimentSaving(ExperimentParts):
    """Checkpoints and policy files.

    Attributes:
        ckpt_folder: of everything that is saved.
        store: of the whole training states.
    """

    ckpt_folder: Path
    store: CheckpointStore
    _stop: StopRequest
    _last_checkpoint: Position | None
    _last_checkpoint_time: float
    _clock: float
    _segment_start: resume.Snapshot

    def _stop_wanted(self) -> bool:
        """Whether to stop; several processes agree, where all of them ask."""
        return self.processes.any(self._stop.wanted)

    def _check_stop_while_acting(self) -> None:
        # Processes act at their own speed and could not agree on a step.
        if self._stop.wanted and not self.processes.several:
            self._stop_now(live=False)

    def _stop_now(self, live: bool) -> None:
        """Checkpoint and leave: this very moment when ``live``, else the segment's start."""
        state = resume.snapshot(self, tensors=False) if live else self._segment_start
        if self.mode == "collect":
            self.collector.train.cut_trajectories()
            self.collector.store()
        elif state.position != self._last_checkpoint and self.processes.is_main:
            resume.save(self, state)
        raise TrainingInterrupted(
            f"stopped in epoch {self.epoch} of {self.epochs}; the same command continues it"
        )

    def _checkpoint_if_due(self, force: bool = False) -> None:
        """At an epoch's end: checkpoint when a segment ended and enough epochs or minutes passed."""
        if self.mode == "collect" or (not force and not self._begins_segment(self.epoch)):
            return
        every = self.ckpt_interval
        last = self._last_checkpoint.epoch if self._last_checkpoint is not None else 0
        due_epochs = every is not None and self.epoch // every > last // every
        minutes = (time.monotonic() - self._last_checkpoint_time) / 60
        due_minutes = self.ckpt_interval_minutes is not None and minutes >= self.ckpt_interval_minutes
        if force:
            self._save_segment_start()
        if force or due_epochs or self.processes.from_main(due_minutes):
            self.save_checkpoint()

    def _save_segment_start(self) -> None:
        """At the end of a budget that ends within a segment: a larger one goes on from the segment's start."""
        start = self._segment_start
        if self.mode != "both" or self._begins_segment(self.epoch) or start.position.epoch == 0:
            return
        if start.position != self._last_checkpoint and self.processes.is_main:
            resume.save(self, start)
        self.processes.wait()

    def save_checkpoint(self) -> None:
        """Write everything that training needs to go on from here, and the policy's weights."""
        position = Position(self.epoch, self.batch)
        if position == self._last_checkpoint:
            return
        if self.processes.is_main:
            folder = resume.save(self, resume.snapshot(self, tensors=False))
            name = f"policy_epoch_{self.epoch}.safetensors"
            link_or_copy(folder / resume.POLICY, self.ckpt_folder / "policy_weights" / name)
        self.processes.wait()
        self._last_checkpoint = position
        self._last_checkpoint_time = time.monotonic()

    def load_checkpoint(self, epoch: int, resume_training_state: bool = True) -> None:
        """Go on from (or only take the weights of) the checkpoint at the start of ``epoch``.

        The weights stay in ``policy_weights`` when the training state has been removed
        (``keep_last_checkpoints``).

        Raises:
            CheckpointError: none there, damaged, or of another architecture.
        """
        weights = self.ckpt_folder / "policy_weights" / f"policy_epoch_{epoch}.safetensors"
        if not resume_training_state and weights.exists():
            self.load_policy(weights)
            return
        checkpoint = self.store.read(Position(epoch))
        resume.restore(self, checkpoint, weights_only=not resume_training_state)
        if resume_training_state:
            self._last_checkpoint = checkpoint.position

    def load_checkpoint_from_path(self, path: str | Path, is_accelerate_state: bool = True) -> None:
        """Load a training state's folder, or with ``is_accelerate_state=False`` a policy file.

        A policy file is ours (``.safetensors``) or AMAGO v3's (``.pt``, read without running code).
        """
        path = Path(path)
        if not is_accelerate_state:
            self.load_policy(path)
            return
        checkpoint = CheckpointStore(path.parent).read(resume.position_of(path))
        resume.restore(self, checkpoint)
        self._last_checkpoint = checkpoint.position

    def save_policy(self, path: str | Path) -> None:
        """Write the policy's weights (safetensors), whole or not at all."""
        save_policy_weights(self.policy, Path(path))

    def load_policy(self, path: str | Path) -> None:
        """Read weights written by ``save_policy`` or by AMAGO v3.

        Raises:
            CheckpointError: unreadable, or of another architecture (names the first difference).
        """
        load_policy_weights(self.policy, Path(path), self.DEVICE)
        self.policy.on_checkpoint_loaded(is_resume=False)

    def write_latest_policy(self) -> None:
        """Write ``ckpts/latest/policy.safetensors``."""
        if self.processes.is_main:
            # The next epoch, or the checkpoint that a run goes on from, brings it again.
            save_policy_weights(
                self.policy, self.ckpt_folder / "latest" / "policy.safetensors", durable=False
            )

    def read_latest_policy(self) -> None:
        """Read ``ckpts/latest/policy.safetensors`` when there is one."""
        path = self.ckpt_folder / "latest" / "policy.safetensors"
        if path.exists():
            self.load_policy(path)

    def delete_buffer_from_disk(self, delete_protected: bool = False) -> None:
        """Delete the dataset's trajectories (needs ``has_dset_edit_rights``).

        Args:
            delete_protected: also those that are never evicted.

        Raises:
            ConfigurationError: this run may not edit the dataset.
        """
        if not self.has_dset_edit_rights:
            raise ConfigurationError("delete_buffer_from_disk needs Experiment.has_dset_edit_rights=True")
        if delete_protected:
            self.dataset.delete(delete_protected=True)
        else:
            self.dataset.delete()  # a user's own may take no argument
