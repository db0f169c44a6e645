"""Run folders as training and evaluation leave them, written without either."""

import dataclasses
import json

from byways.experiments.config import ClassificationConfig, Experiment, kind_of
from byways.experiments.config_files import FORMAT, to_dict
from byways.models import MoeConfig, VmoeConfig

CLASSES = ClassificationConfig(
    model=VmoeConfig(moe=MoeConfig(num_experts=4)), batch_size=10, steps=40, log_every=10
)


def line(step, kind, metrics, **times):
    return {"step": step, "kind": kind, "metrics": metrics, "times": times}


def train_line(step, loss, seconds, timed=10, batch_size=10, **times):
    """Of `timed` steps that took so many seconds."""
    rate = timed * batch_size / seconds
    metrics = {"loss": loss + 0.1, "loss/cross_entropy": loss, "loss/contrastive": loss}
    return line(step, "train", metrics, seconds=seconds, examples_per_second=rate, **times)


def log_of(config=CLASSES, score=0.5, upto=None, pace=2.0):
    """A log of a line each `log_every` steps, with a validation after every second."""
    lines = []
    for i, step in enumerate(range(config.log_every, (upto or config.steps) + 1, config.log_every)):
        fields = {"timed": config.log_every, "batch_size": config.batch_size}
        lines.append(train_line(step, 2.0 / (i + 1) + score, pace, **fields))
        if i % 2:
            top1 = score * step / config.steps
            lines.append(line(step, "validation", {"top1": top1, "top5": top1}, seconds=5.0))
    return lines


def write_run(
    folder,
    config: Experiment = CLASSES,
    results=None,
    finished=True,
    preset="vmoe_tiny",
    lines=None,
    seed=None,
):
    """A run folder; `results` None leaves no results.json."""
    if seed is not None:
        config = dataclasses.replace(config, seed=seed)
    folder.mkdir(parents=True)
    head = {"format": FORMAT, "kind": kind_of(config), "preset": preset, "config": to_dict(config)}
    (folder / "config.json").write_text(json.dumps(head))
    lines = log_of(config) if lines is None else lines
    (folder / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    if finished:
        status = {"format": FORMAT, "finished": True, "step": config.steps}
        (folder / "status.json").write_text(json.dumps(status))
    if results is not None:
        results = {"format": 1, "kind": kind_of(config), "step": config.steps, **results}
        (folder / "results.json").write_text(json.dumps(results))
    return folder
