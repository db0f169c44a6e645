"""A trained run as a library: `byways.load(RUN)`, then embed images and texts."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jaxtyping import Float
from PIL import Image, ImageOps

from .checkpoints import Checkpoints
from .config import ContrastiveConfig, Execution, Experiment, ExperimentConfig, kind_of
from .config_files import fingerprint
from .contrastive import pair_model
from .errors import RunError
from .execution import check_forward
from .forward import Forward, Placed, in_flight
from .run_folder import RunFolder

if TYPE_CHECKING:
    from ..datasets import Tokenizer

# Rows that go through the model at once. One shape, so that one program serves any number;
# embeddings do not depend on it, since evaluation is dropless and masked.
BATCH = 64


@dataclasses.dataclass(frozen=True)
class Run:
    """A trained model, ready to embed; evaluation is dropless and without noise.

    Attributes:
        folder: where it came from.
        config: the experiment.
        params: the model's parameters, nested dictionaries of NumPy arrays.
        step: optimiser steps that made them.
        tokenizer: text to pieces.
        execution: how it runs: `fused`, `pathways` or `auto`; embeddings are the same, to rounding.

    Examples:
        >>> import numpy as np, tempfile
        >>> from byways.experiments.library import untrained_run
        >>> folder = tempfile.TemporaryDirectory()
        >>> _ = untrained_run(folder.name)

        >>> import byways
        >>> run = byways.load(folder.name)
        >>> texts = run.embed_texts(["a red apple", "a tram"])
        >>> images = run.embed_images(np.zeros((3, 32, 32, 3), np.uint8))
        >>> texts.shape, images.shape, texts.dtype
        ((2, 96), (3, 96), dtype('float32'))
        >>> similarity = images @ texts.T  # cosines: rows have length one
        >>> similarity.shape
        (3, 2)
        >>> folder.cleanup()
    """

    folder: Path
    config: ContrastiveConfig
    params: Any
    step: int
    tokenizer: Tokenizer
    execution: Execution = "fused"

    def embed_images(self, images: Any) -> Float[np.ndarray, "n F"]:
        """Embeds images.

        Args:
            images: (n, S, S, 3) uint8, or a sequence of PIL images, paths, or uint8 arrays
                (h, w, 3 or 4); what has another size is fitted into S, transparency becomes white.

        Returns:
            (n, F) float32, rows of length one.

        Raises:
            ValueError: an array that holds no such images.
            OSError: a file that is missing or does not decode.
        """
        side = self.config.model.image_size
        pixels = as_pixels(images, side)
        return self._embed(self._images, pixels)

    def embed_texts(self, texts: Sequence[str]) -> Float[np.ndarray, "n F"]:
        """Embeds texts; one longer than N_t pieces is cut.

        Returns:
            (n, F) float32, rows of length one.

        Raises:
            ValueError: an empty text, or one string where a list of strings is expected.
        """
        if isinstance(texts, str):
            raise ValueError(f"texts is one string; give a list: [{texts!r}]")
        ids, real = self.tokenizer.encode(list(texts), self.config.model.text_length)
        empty = np.flatnonzero(~real.any(axis=1))
        if len(empty):
            raise ValueError(
                f"text {empty[0]} is {texts[empty[0]]!r}, which has no pieces; give it some words"
            )
        return self._embed(self._texts, ids, real)

    @functools.cached_property
    def _placed(self) -> Placed:
        """The parameters on the device, once."""
        return Placed(self.params)

    @functools.cached_property
    def _images(self) -> Forward:
        return Forward(image_embedding, self.config.model, self._placed, self.execution)

    @functools.cached_property
    def _texts(self) -> Forward:
        return Forward(text_embedding, self.config.model, self._placed, self.execution)

    def _embed(self, embed: Forward, *arrays: np.ndarray) -> Float[np.ndarray, "n F"]:
        parts = [np.zeros((0, self.config.model.embed_dim), np.float32)]
        for (count, _, _), found in in_flight(lambda b: embed(*b[2], b[1]), _batches(arrays)):
            parts.append(found[:count])
        return np.concatenate(parts)


@dataclasses.dataclass(frozen=True)
class Trained:
    """The parameters of a run of any kind.

    Attributes:
        folder: the run folder.
        config: the experiment.
        params: the model's parameters, nested dictionaries of NumPy arrays.
        step: optimiser steps that made them.
    """

    folder: Path
    config: Experiment
    params: Any
    step: int


def read_run(folder: str | Path, step: int | None = None) -> Trained:
    """Reads the parameters of a run of any kind.

    Args:
        folder: the run folder; a run that is still training may be read too.
        step: which of its checkpoints; None is the newest whole one.

    Raises:
        RunError: there is no run.
        CheckpointError: no such checkpoint, or none that is whole.
    """
    run = RunFolder(folder)
    config, _ = run.read()
    checkpoints = Checkpoints(run.checkpoints, config.checkpoint, fingerprint(config))
    try:
        found, params = checkpoints.restore_params(step)
    finally:
        checkpoints.close()
    return Trained(run.path, config, params, found)


def load(folder: str | Path, step: int | None = None, execution: Execution = "fused") -> Run:
    """Loads a run: its config, parameters and tokenizer.

    Args:
        folder: the run folder; a run that is still training may be loaded too.
        step: which of its checkpoints; None is the newest whole one.
        execution: how it shall run (docs/execution.md).

    Raises:
        ConfigError: `pathways`, of a model without experts that could be left out.
        RunError: there is no run, or one of another kind.
        CheckpointError: no such checkpoint, or none that is whole.
    """
    from ..datasets import Tokenizer

    run = RunFolder(folder)
    config, _ = run.read()
    if not isinstance(config, ContrastiveConfig):
        raise RunError(
            f"{run.path} is a run of {kind_of(config)}, which embeds no pairs of images and texts"
        )
    if not run.tokenizer_file.is_file():
        raise RunError(f"{run.tokenizer_file} is missing; copy the run's tokenizer back there")
    read = read_run(folder, step)
    try:
        tokenizer = Tokenizer(run.tokenizer_file)
    except ValueError as error:
        raise RunError(f"{error} Copy the run's tokenizer back there.") from error
    if tokenizer.vocab_size > config.model.vocab_size:
        raise RunError(
            f"{run.tokenizer_file} has {tokenizer.vocab_size} pieces, but the model embeds only "
            f"model.vocab_size {config.model.vocab_size}: this is not the run's tokenizer"
        )
    if execution == "pathways":
        check_forward(config.model)
    return Run(run.path, config, read.params, read.step, tokenizer, execution)


def untrained_run(folder: str | Path, config: ContrastiveConfig | None = None) -> Path:
    """Makes a run folder that holds random weights: for trying things out, and for tests.

    Args:
        folder: a new or empty folder.
        config: the experiment; None is the default one. Its vocabulary becomes the tokenizer's.
    """
    from ..datasets import Tokenizer

    config = config or ExperimentConfig()
    tokenizer = Tokenizer(config.data.tokenizer)
    model = dataclasses.replace(config.model, vocab_size=tokenizer.vocab_size)
    config = dataclasses.replace(config, model=model)
    with RunFolder(folder).start(config, "untrained") as run:
        run.adopt_tokenizer(tokenizer.path)
        checkpoints = Checkpoints(run.checkpoints, config.checkpoint, fingerprint(config))
        checkpoints.save(0, {"params": _random_params(config)})
        checkpoints.close()
        run.mark_finished(0)
    return run.path


def _random_params(config: ContrastiveConfig) -> Any:
    """Parameters of the right shapes, drawn by NumPy: compiling Flax's draws takes seconds."""
    side, length = config.model.image_size, config.model.text_length
    shapes = jax.eval_shape(
        pair_model(config.model).init,
        jax.random.key(0),
        jax.ShapeDtypeStruct((1, side, side, 3), np.uint8),
        jax.ShapeDtypeStruct((1, length), np.int32),
        jax.ShapeDtypeStruct((1, length), np.bool_),
    )["params"]
    draw = np.random.default_rng(config.seed)

    def fill(path: Any, leaf: Any) -> np.ndarray:
        if leaf.ndim < 2:
            value = np.ones if getattr(path[-1], "key", "") == "scale" else np.zeros
            return value(leaf.shape, leaf.dtype)
        return (draw.standard_normal(leaf.shape) / leaf.shape[-2] ** 0.5).astype(leaf.dtype)

    return jax.tree_util.tree_map_with_path(fill, shapes)


def image_embedding(config: Any) -> Callable[..., jax.Array]:
    """(params, pixels, mask of rows) -> (B, F) of a model's config; see `Forward`."""
    model = pair_model(config)

    def images(params: Any, pixels: jax.Array, mask: jax.Array) -> jax.Array:
        found = model.apply({"params": params}, pixels, None, None, mask)
        assert found.image is not None  # pyright: ignore[reportAttributeAccessIssue]
        return found.image  # pyright: ignore[reportAttributeAccessIssue]

    return images


def text_embedding(config: Any) -> Callable[..., jax.Array]:
    """(params, ids, which are real, mask of rows) -> (B, F) of a model's config."""
    model = pair_model(config)

    def texts(params: Any, ids: jax.Array, real: jax.Array, mask: jax.Array) -> jax.Array:
        found = model.apply({"params": params}, None, ids, real, mask)
        assert found.text is not None  # pyright: ignore[reportAttributeAccessIssue]
        return found.text  # pyright: ignore[reportAttributeAccessIssue]

    return texts


def _batches(
    arrays: Sequence[np.ndarray],
) -> Iterator[tuple[int, np.ndarray, list[np.ndarray]]]:
    """Rows in batches of one size: how many are real, which, and the arrays padded with zeros."""
    for start in range(0, len(arrays[0]), BATCH):
        rows = [array[start : start + BATCH] for array in arrays]
        count = len(rows[0])
        filled = [np.zeros((BATCH, *array.shape[1:]), array.dtype) for array in rows]
        for target, source in zip(filled, rows, strict=True):
            target[:count] = source
        yield count, np.arange(BATCH) < count, filled


def as_pixels(images: Any, side: int) -> np.ndarray:
    """Whatever images were given, as (n, S, S, 3) uint8; see `Run.embed_images`."""
    if isinstance(images, np.ndarray) and images.ndim == 4 and images.shape[1:] == (side, side, 3):
        if images.dtype != np.uint8:
            raise ValueError(f"images are {images.dtype}; expected uint8, from 0 to 255")
        return images
    if isinstance(images, str | Path | Image.Image):
        raise ValueError("images is one image; give a list of images")
    fitted = [_fit(image, side) for image in images]
    return np.stack(fitted) if fitted else np.zeros((0, side, side, 3), np.uint8)


def _fit(image: Any, side: int) -> np.ndarray:
    """One image as (S, S, 3) uint8: centre-cropped to a square, resized, over white."""
    from ..datasets import as_rgba

    if not isinstance(image, str | Path | Image.Image):
        array = np.asarray(image)
        if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] not in (3, 4):
            raise ValueError(
                f"an image is {array.dtype} of shape {array.shape}; expected uint8 (h, w, 3) or "
                "(h, w, 4)"
            )
        image = Image.fromarray(array)
    rgba = as_rgba(image)
    if rgba.size != (side, side):
        rgba = ImageOps.fit(rgba, (side, side), Image.Resampling.LANCZOS)
    white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
    return np.asarray(Image.alpha_composite(white, rgba).convert("RGB"))
