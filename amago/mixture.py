"""`MixtureOfDatasets`: several datasets sampled side by side, by weights that may change in time."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from amago.errors import CheckpointError, ConfigurationError, DataError
from amago.loading import Batch, RLData, RLDataset, sample_trajectory
from amago.storage import ActionFormat, Rows


class MixtureOfDatasets(RLDataset):
    """Each sequence comes from one of ``datasets``, drawn by weight; those without enough data wait.

    The weight of a dataset that becomes ready after training began (an online buffer beside
    demonstrations, say) rises linearly from 0 over ``smooth_sudden_starts`` epochs.

    Args:
        datasets: at most one of them may store new trajectories.
        sampling_weights: one for each, in any scale.
        initial_sampling_weights: where each weight begins its way, when it should not be its final
            value (ready from the start) or 0 (ready later); needs ``smooth_sudden_starts``.
        smooth_sudden_starts: epochs that a weight takes from its first to its final value.
        dset_name: in descriptions.

    Raises:
        ConfigurationError: weights that are not one for each dataset, negative, or all 0.
    """

    def __init__(
        self,
        datasets: Sequence[RLDataset],
        sampling_weights: Sequence[float],
        initial_sampling_weights: Sequence[float] | None = None,
        smooth_sudden_starts: int | None = None,
        dset_name: str | None = None,
    ) -> None:
        super().__init__(dset_name=dset_name)
        self.datasets = list(datasets)
        self.sampling_weights = self._weights("sampling_weights", sampling_weights)
        self.initial_sampling_weights = None
        if initial_sampling_weights is not None:
            self.initial_sampling_weights = self._weights(
                "initial_sampling_weights", initial_sampling_weights
            )
            if smooth_sudden_starts is None:
                raise ConfigurationError(
                    "MixtureOfDatasets.initial_sampling_weights needs smooth_sudden_starts: over how many epochs "
                    "do they become sampling_weights?"
                )
        if smooth_sudden_starts is not None and smooth_sudden_starts < 1:
            raise ConfigurationError(
                f"MixtureOfDatasets.smooth_sudden_starts must be None or at least 1, got {smooth_sudden_starts}"
            )
        self.smooth_sudden_starts = smooth_sudden_starts
        self._begin()

    def _weights(self, name: str, given: Sequence[float]) -> np.ndarray:
        weights = np.asarray(given, np.float64)
        if weights.shape != (len(self.datasets),) or (weights < 0).any() or not weights.sum() > 0:
            raise ConfigurationError(
                f"MixtureOfDatasets.{name} must be {len(self.datasets)} numbers, one for each dataset, "
                f"not negative and not all 0; got {list(given)}"
            )
        return weights / weights.sum()

    def _begin(self) -> None:
        """As before the first epoch."""
        ready = np.array([d.ready_for_training for d in self.datasets])
        #: epoch in which each dataset was first ready; what its weight was then
        self._since: list[int | None] = [0 if r else None for r in ready]
        start = self.initial_sampling_weights
        self._from = np.where(ready, self.sampling_weights, 0.0) if start is None else start
        self.current_weights = self._at(0)

    def _at(self, epoch: int) -> np.ndarray:
        """Weights in an epoch, (number of datasets,); they sum to 1 unless none is ready."""
        ready = np.array(
            [s is not None and d.ready_for_training for s, d in zip(self._since, self.datasets, strict=True)]
        )
        age = np.array([epoch - s if s is not None else 0 for s in self._since])
        done = np.clip(age / self.smooth_sudden_starts, 0.0, 1.0) if self.smooth_sudden_starts else 1.0
        weights = (self._from + (self.sampling_weights - self._from) * done) * ready
        if weights.sum() == 0:  # all that is ready is at the start of its way
            weights = self.sampling_weights * ready
        return weights / max(weights.sum(), 1e-12)

    # -- RLDataset ----------------------------------------------------------------------------

    @property
    def save_new_trajs_to(self) -> str | None:
        saving = self._saving()
        return saving.save_new_trajs_to if saving is not None else None

    def _saving(self) -> RLDataset | None:
        found = [d for d in self.datasets if d.save_new_trajs_to is not None]
        if len(found) > 1:
            raise ConfigurationError(
                "MixtureOfDatasets: only one of its datasets may store new trajectories, but these do: "
                f"{'; '.join(d.get_description() for d in found)}; give the others a save_new_trajs_to of None"
            )
        return found[0] if found else None

    def get_description(self) -> str:
        parts = [
            f"{w:.0%} {d.get_description()}" for w, d in zip(self.current_weights, self.datasets, strict=True)
        ]
        return f"{self.dset_name or 'mixture'}: " + " + ".join(parts)

    def __len__(self) -> int:
        """Trajectories in the datasets that count them."""
        return sum(len(d) for d in self.datasets if hasattr(d, "__len__"))

    @property
    def ready_for_training(self) -> bool:
        return any(
            d.ready_for_training and w > 0 for d, w in zip(self.datasets, self.sampling_weights, strict=True)
        )

    def configure_from_experiment(self, experiment: Any) -> None:
        super().configure_from_experiment(experiment)
        for dataset in self.datasets:
            dataset.configure_from_experiment(experiment)
        self._saving()
        self._begin()

    def share_as(self, role: str, name: str = "") -> None:
        for dataset in self.datasets:
            dataset.share_as(role, name)

    def refresh(self) -> int:
        return sum(d.refresh() for d in self.datasets)

    def on_epoch(self, epoch: int) -> int:
        found = sum(d.on_epoch(epoch) or 0 for d in self.datasets)
        for i, dataset in enumerate(self.datasets):
            if self._since[i] is None and dataset.ready_for_training:
                self._since[i] = epoch
        self.current_weights = self._at(epoch)
        return found

    def on_end_of_collection(self, experiment: Any) -> dict[str, Any]:
        metrics: dict[str, Any] = {}
        for i, dataset in enumerate(self.datasets):
            name = dataset.dset_name or f"dataset {i}"
            metrics |= {f"{k} ({name})": v for k, v in dataset.on_end_of_collection(experiment).items()}
            metrics[f"Sampling Weight ({name})"] = float(self.current_weights[i])
        return metrics

    def add(self, name: str, trajectories: list[Rows], env_names: list[str], actions: ActionFormat) -> None:
        saving = self._saving()
        if saving is not None:
            saving.add(name, trajectories, env_names, actions)

    def delete(self, delete_protected: bool = False) -> None:
        """Delete what the dataset that stores new trajectories has; the others are only read."""
        saving = self._saving()
        if saving is not None and delete_protected:
            saving.delete(delete_protected=True)
        elif saving is not None:
            saving.delete()

    # -- sampling -----------------------------------------------------------------------------

    def _draw(self, rng: np.random.Generator, size: int) -> np.ndarray:
        if not self.current_weights.any():
            raise DataError(f"{self.get_description()}: none has enough trajectories yet; collect some first")
        return rng.choice(len(self.datasets), size=size, p=self.current_weights)

    def sample_random_trajectory(self, rng: np.random.Generator) -> RLData:
        return sample_trajectory(self.datasets[int(self._draw(rng, 1)[0])], rng)

    def sample_batch(self, rng: np.random.Generator, batch_size: int, length: int, padding: str) -> Batch:
        """As the base's, but every dataset gives its share by its own fast way, one after another."""
        counts = np.bincount(self._draw(rng, batch_size), minlength=len(self.datasets))
        shares = [
            d.sample_batch(rng, int(n), length, padding)
            for d, n in zip(self.datasets, counts, strict=True)
            if n > 0
        ]
        return shares[0] if len(shares) == 1 else _join(shares)

    # -- exact resume ---------------------------------------------------------------------------

    def begin_anew(self) -> None:
        for dataset in self.datasets:
            dataset.begin_anew()
        self._begin()

    def make_durable(self, state: dict[str, Any]) -> None:
        for dataset, own in zip(self.datasets, state["datasets"], strict=True):
            dataset.make_durable(own)

    def state_dict(self) -> dict[str, Any]:
        return {
            "datasets": [d.state_dict() for d in self.datasets],
            "since": list(self._since),
            "from": self._from.tolist(),
            "weights": self.current_weights.tolist(),
        }

    def check_state_dict(self, state: dict[str, Any]) -> None:
        owned = state.get("datasets")
        if not isinstance(owned, list) or len(owned) != len(self.datasets):
            raise CheckpointError("the checkpoint is of another mixture of datasets")
        for dataset, own in zip(self.datasets, owned, strict=True):
            dataset.check_state_dict(own)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for dataset, own in zip(self.datasets, state["datasets"], strict=True):
            dataset.load_state_dict(own)
        self._since = list(state["since"])
        self._from = np.array(state["from"])
        self.current_weights = np.array(state["weights"])

    def release(self, kept_states: list[dict[str, Any]]) -> None:
        for i, dataset in enumerate(self.datasets):
            dataset.release([state["datasets"][i] for state in kept_states])


def _form(batch: Batch) -> dict[str, tuple[int, ...]]:
    """Sizes that batches must share to be joined."""
    sizes = {k: tuple(v.shape[2:]) for k, v in sorted(batch.obs.items())}
    return sizes | {"actions": tuple(batch.actions.shape[2:])}


def _join(batches: list[Batch]) -> Batch:
    """One batch of several, padded at the end to the longest."""
    for other in batches[1:]:
        if _form(other) != _form(batches[0]):
            raise DataError(
                "MixtureOfDatasets: its datasets have different observations or action sizes: "
                f"{_form(batches[0])} and {_form(other)}"
            )

    def join(parts: list[torch.Tensor]) -> torch.Tensor:
        longest = max(p.shape[1] for p in parts)
        dtype = functools.reduce(torch.promote_types, {p.dtype for p in parts})
        out = parts[0].new_zeros((sum(len(p) for p in parts), longest, *parts[0].shape[2:]), dtype=dtype)
        row = 0
        for p in parts:
            out[row : row + len(p), : p.shape[1]] = p
            row += len(p)
        return out

    names = ("rl2s", "rews", "dones", "actions", "time_idxs", "mask")
    return Batch(
        {k: join([b.obs[k] for b in batches]) for k in batches[0].obs},
        *(join([getattr(b, n) for b in batches]) for n in names),
    )
