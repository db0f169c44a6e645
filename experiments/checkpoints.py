"""Checkpoints: saved by Orbax in the background, verified before they are used.

    checkpoints/STEP/       Orbax's folder: the arrays
    checkpoints/STEP.json   its manifest, written last: step, score, extra, config, digests

A checkpoint counts once its manifest is there. Older ones are deleted only after that, so
that a kill or a full disk at any moment leaves the last good one whole.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from .config import CheckpointConfig
from .config_files import describe_differences, differences
from .errors import CheckpointError
from .files import remove_tree, sync_tree
from .manifest import DamagedError, Manifest, describe_files, read_manifest, verify_files

_TEMPORARY = ".orbax-checkpoint-tmp"


@dataclasses.dataclass(frozen=True)
class Restored:
    """A checkpoint as it was saved.

    Attributes:
        step: optimiser steps done.
        state: the pytree, every leaf bit for bit as it was saved.
        extra: the JSON-able rest.
        rejected: newer checkpoints that could not be used, each with the reason.
    """

    step: int
    state: Any
    extra: dict[str, Any]
    rejected: list[str]


class Checkpoints:
    """The checkpoints of one run.

    Examples:
        >>> import tempfile
        >>> from byways.experiments import Checkpoints, ExperimentConfig
        >>> config = ExperimentConfig()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     checkpoints = Checkpoints(Path(folder), config.checkpoint, {"steps": 2})
        ...     checkpoints.save(1, {"params": {"w": jnp.ones(3)}}, {"row": 7})
        ...     restored = checkpoints.latest({"params": {"w": jnp.zeros(3)}})
        ...     checkpoints.close()
        >>> restored.step, restored.extra, restored.state["params"]["w"].tolist()
        (1, {'row': 7}, [1.0, 1.0, 1.0])
    """

    def __init__(self, folder: Path, config: CheckpointConfig, fingerprint: Mapping[str, Any]):
        """Args:
        folder: `checkpoints/` of the run; made when something is first saved.
        config: how many to keep.
        fingerprint: nested dictionaries (`fingerprint(config)`); a checkpoint of another one is
            refused.
        """
        self._folder = Path(folder).absolute()
        self._config = config
        self._fingerprint = dict(fingerprint)
        self._saver = ocp.AsyncCheckpointer(ocp.PyTreeCheckpointHandler())
        self._thread: threading.Thread | None = None
        self._failure: CheckpointError | None = None
        self._rejected: set[int] = set()

    def save(
        self,
        step: int,
        state: Any,
        extra: Mapping[str, Any] | None = None,
        score: float | None = None,
    ) -> None:
        """Saves in the background; waits only for an earlier save that is still going on.

        Args:
            step: optimiser steps done.
            state: pytree of arrays; may be donated as soon as this returns.
            extra: JSON-able.
            score: for keep-best, higher is better.

        Raises:
            CheckpointError: an earlier save failed; the last good checkpoint is named.
        """
        self.wait()
        # On the CPU, Orbax would write out of the very buffers that the next step reuses.
        state = jax.tree.map(_own, state)
        manifest = Manifest(int(step), score, dict(extra or {}), self._fingerprint, {})
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._remove(manifest.step)
            self._saver.save(self._path(manifest.step), args=ocp.args.PyTreeSave(state))
        except Exception as error:
            self._failure = self._not_saved(manifest.step, error)
            self.wait()
        self._thread = threading.Thread(target=self._commit, args=(manifest,), name="checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Blocks until the last save is whole on disk.

        Raises:
            CheckpointError: it failed (a full disk, say); the last good checkpoint is named.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def latest(self, template: Any) -> Restored | None:
        """The newest whole checkpoint, or None where none was ever finished.

        Args:
            template: pytree of arrays with the structure, shapes, dtypes and shardings wanted.

        Raises:
            CheckpointError: it belongs to another config (the differing keys are named), or
                checkpoints are there but all of them are damaged (each is named).
        """
        self.wait()
        rejected: list[str] = []
        damaged = False
        for step in self._steps(newest_first=True):
            try:
                manifest = self._verified(step)
                self._check_fingerprint(manifest)
                state = self._restore(step, template)
            except DamagedError as error:
                damaged |= self._manifest(step).exists()
                self._rejected.add(step)
                rejected.append(f"step {step}: {error}")
            else:
                return Restored(step, state, manifest.extra, rejected)
        if damaged:
            raise CheckpointError(self._none_whole(rejected))
        return None

    def restore_params(self, step: int | None = None) -> tuple[int, Any]:
        """The step, and the parameters alone, as NumPy arrays in nested dictionaries.

        Args:
            step: which checkpoint; None is the newest whole one.

        Raises:
            CheckpointError: no such checkpoint, or none that is whole.
        """
        wanted = self._steps(newest_first=True) if step is None else [step]
        rejected: list[str] = []
        if step is not None and step not in self._steps():
            there = ", ".join(map(str, self._steps())) or "none"
            raise CheckpointError(
                f"no whole checkpoint in {self._folder} of step {step}; there: {there}"
            )
        for candidate in wanted:
            try:
                self._verified(candidate)
                return candidate, self._restore_params(candidate)
            except DamagedError as error:
                rejected.append(f"step {candidate}: {error}")
        raise CheckpointError(self._none_whole(rejected))

    def last_step(self) -> int | None:
        """The newest checkpoint with a sound manifest, or None; its files are not read."""
        manifests = self._manifests()
        return max(manifests) if manifests else None

    def best_step(self) -> int | None:
        """The checkpoint with the highest score (the newest of equals), or None."""
        scored = [(m.score, step) for step, m in self._manifests().items() if m.score is not None]
        return max(scored)[1] if scored else None

    def path(self, step: int) -> Path:
        """The folder of a checkpoint."""
        return self._path(step)

    def close(self) -> None:
        """Waits for the last save and gives the background workers back.

        Raises:
            CheckpointError: as `wait`.
        """
        try:
            self.wait()
        finally:
            self._saver.close()

    def _commit(self, manifest: Manifest) -> None:
        """In the background: makes the save whole, then deletes what need not be kept."""
        step = manifest.step
        try:
            self._saver.wait_until_finished()
            # On the disk before the manifest says so, and before an older one is deleted: what
            # is only in memory is lost when the power goes.
            sync_tree(self._path(step))
            files = describe_files(self._path(step))
            dataclasses.replace(manifest, files=files).write(self._manifest(step))
        except Exception as error:
            # Before the clean-up, which may fail by the same.
            self._rejected.add(step)
            self._failure = self._not_saved(step, error)
            with contextlib.suppress(OSError):
                self._remove(step)
                self._remove_temporary()
            return
        self._rejected.discard(step)
        # What cannot be removed now is tried again after the next save.
        with contextlib.suppress(OSError):
            self._prune()

    def _prune(self) -> None:
        manifests = self._manifests()
        keep = set(sorted(manifests)[-self._config.keep_last :])
        scored = sorted((m.score, step) for step, m in manifests.items() if m.score is not None)
        if self._config.keep_best:
            keep |= {step for _, step in scored[-self._config.keep_best :]}
        for step in self._steps():
            if step not in keep:
                self._remove(step)
        self._remove_temporary()

    def _steps(self, newest_first: bool = False) -> list[int]:
        """Every step of which there is a folder or a manifest, whole or not."""
        if not self._folder.is_dir():
            return []
        names = {path.name.removesuffix(".json") for path in self._folder.iterdir()}
        return sorted((int(name) for name in names if name.isdecimal()), reverse=newest_first)

    def _manifests(self) -> dict[int, Manifest]:
        found: dict[int, Manifest] = {}
        for step in self._steps():
            if step not in self._rejected and self._path(step).is_dir():
                try:
                    found[step] = read_manifest(self._manifest(step))
                except DamagedError:
                    continue
        return found

    def _verified(self, step: int) -> Manifest:
        manifest = read_manifest(self._manifest(step))
        verify_files(self._path(step), manifest)
        return manifest

    def _check_fingerprint(self, manifest: Manifest) -> None:
        changes = differences(manifest.fingerprint, self._fingerprint)
        if changes:
            raise CheckpointError(
                f"the checkpoint {self._path(manifest.step)} belongs to another config "
                f"({describe_differences(changes)}); give the old values, or use another folder"
            )

    def _restore(self, step: int, template: Any) -> Any:
        keys = jax.tree.map(_is_key, template)
        raw = jax.tree.map(_raw, template)
        arguments = ocp.args.PyTreeRestore(
            item=raw, restore_args=ocp.checkpoint_utils.construct_restore_args(raw)
        )
        try:
            state = self._saver.restore(self._path(step), args=arguments)
        except Exception as error:
            raise DamagedError(f"Orbax cannot read it ({_first_line(error)})") from error
        return jax.tree.map(
            lambda is_key, leaf, like: (
                jax.random.wrap_key_data(leaf, impl=jax.random.key_impl(like)) if is_key else leaf
            ),
            keys,
            state,
            template,
        )

    def _restore_params(self, step: int) -> Any:
        path = self._path(step)
        try:
            tree = self._saver.metadata(path).item_metadata.tree["params"]  # type: ignore[union-attr]
            item = {"params": jax.tree.map(lambda leaf: np.empty((), leaf.dtype), tree)}
            arguments = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), item)
            restored = self._saver.restore(
                path,
                args=ocp.args.PyTreeRestore(
                    item=item, restore_args=arguments, partial_restore=True
                ),
            )
        except Exception as error:
            raise DamagedError(
                f"Orbax cannot read its parameters ({_first_line(error)})"
            ) from error
        return restored["params"]

    def _not_saved(self, step: int, error: Exception) -> CheckpointError:
        try:
            last = self.last_step()
            kept = (
                f"the last good checkpoint is step {last} ({self._path(last)})"
                if last is not None
                else "there is no earlier checkpoint"
            )
        except OSError as also:
            kept = f"nor can {self._folder} be read ({_first_line(also)})"
        return CheckpointError(
            f"the checkpoint of step {step} could not be saved ({_first_line(error)}); {kept}. "
            "Make room and run the same command again to go on from there"
        )

    def _none_whole(self, rejected: list[str]) -> str:
        why = "; ".join(rejected) or "nothing was saved there"
        return (
            f"no whole checkpoint in {self._folder} ({why}). Restore a copy of one, or remove the "
            "run folder to train from the start"
        )

    def _remove(self, step: int) -> None:
        # The manifest goes first: what is left after a kill in between counts as incomplete.
        self._manifest(step).unlink(missing_ok=True)
        remove_tree(self._path(step))

    def _remove_temporary(self) -> None:
        for path in self._folder.glob(f"*{_TEMPORARY}*"):
            remove_tree(path)

    def _path(self, step: int) -> Path:
        return self._folder / str(step)

    def _manifest(self, step: int) -> Path:
        return self._folder / f"{step}.json"


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _raw(leaf: Any) -> Any:
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _own(leaf: Any) -> Any:
    """A leaf in buffers of its own, sharded as it was; typed PRNG keys as raw uint32."""
    leaf = _raw(leaf)
    if isinstance(leaf, jax.Array):
        on_cpu = any(device.platform == "cpu" for device in leaf.devices())
        return jnp.copy(leaf) if on_cpu else leaf
    return np.array(leaf)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:300]
