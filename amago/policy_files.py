"""A policy's weights as a file: ours (safetensors) and AMAGO v3's (read only)."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from amago.errors import CheckpointError, is_out_of_memory
from amago.files import write_atomic, write_bytes
from amago.version import TRAINING_VERSION


def save_policy_weights(policy: torch.nn.Module, path: Path, durable: bool = True) -> None:
    """Write all parameters and buffers; the file appears whole or not at all.

    Args:
        durable: survive a power loss; costs more than the writing, and is not worth it for a file that
            comes again soon.

    Raises:
        CheckpointError: the disk is full or cannot be written; an older file is intact.
    """
    tensors = {k: v.detach().cpu().contiguous() for k, v in policy.state_dict().items()}
    metadata = {"amago_training_version": str(TRAINING_VERSION)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        data = save(tensors, metadata=metadata)
        write_atomic(path, lambda p: write_bytes(p, data), durable)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"could not write {path}: {error}; free some space or mend permissions"
        ) from error


def read_tensors(path: Path, device: torch.device) -> dict[str, torch.Tensor]:
    """Tensors of a policy file, by name; never runs what it reads.

    Raises:
        CheckpointError: absent or unreadable.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path, device=str(device))
    except FileNotFoundError as error:  # safetensors calls every file so that it cannot open
        raise CheckpointError(f"{path}: {_why_not_opened(path)}") from error
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        if is_out_of_memory(error):
            raise
        raise CheckpointError(f"{path}: not a readable policy file ({_first_line(error)})") from error
    found = load_without_running(path, device)
    if not isinstance(found, dict) or not all(
        isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in found.items()
    ):
        raise CheckpointError(f"{path}: not a policy file (needs tensors by name)")
    return found


def _why_not_opened(path: Path) -> str:
    try:
        path.open("rb").close()
    except FileNotFoundError:
        return "no such policy file"
    except OSError as error:
        return f"this policy file cannot be read: {error.strerror}"
    return "no such policy file"  # it has come back meanwhile


def load_without_running(path: Path, device: torch.device) -> Any:
    """The content of a ``.pt`` file; only tensors and plain values, never code.

    Raises:
        CheckpointError: absent, unreadable, or it holds anything else.
    """
    try:
        with open(path, "rb") as handle:
            # Older forms (a bare pickle, a tar) take other ways through torch; nothing of ours has them.
            if handle.read(4) != b"PK\x03\x04":
                raise CheckpointError(f"{path}: not a file of tensors (torch.save writes a zip)")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file") from error
    except CheckpointError:
        raise
    except Exception as error:
        # The restricted unpickler follows the bytes, and raises whatever they lead it to.
        raise CheckpointError(
            f"{path}: not a readable file of tensors ({type(error).__name__}: {_first_line(error)[:200]})"
        ) from error


def load_policy_weights(policy: torch.nn.Module, path: Path, device: torch.device) -> None:
    """Put a file's weights into ``policy``.

    Raises:
        CheckpointError: unreadable, or of another architecture; the policy is then unchanged.
    """
    from amago.agent.import_v3 import convert_v3_state_dict

    tensors = convert_v3_state_dict(read_tensors(path, device))
    check_same_architecture(policy, tensors, path)
    policy.load_state_dict(tensors)


def check_same_architecture(policy: torch.nn.Module, tensors: dict[str, Any], path: Path) -> None:
    """Compare names and shapes before anything is overwritten.

    Raises:
        CheckpointError: names the first difference.
    """
    own = policy.state_dict()
    for name in sorted(own.keys() | tensors.keys()):
        if name not in tensors:
            problem = f"has no {name!r}, which this agent needs"
        elif name not in own:
            problem = f"has {name!r}, which this agent does not know"
        elif not is_plain(tensors[name]):
            problem = f"has {name!r} in an unusual layout"
        elif own[name].shape != tensors[name].shape:
            problem = (
                f"has {name!r} of shape {tuple(tensors[name].shape)}, this agent {tuple(own[name].shape)}"
            )
        else:
            continue
        raise CheckpointError(
            f"{path}: weights of another architecture: it {problem}; use the configuration that it was trained with"
        )


def is_plain(tensor: torch.Tensor) -> bool:
    """Dense numbers in memory: what policies and optimisers consist of."""
    return tensor.layout is torch.strided and not (tensor.is_meta or tensor.is_quantized or tensor.is_nested)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
