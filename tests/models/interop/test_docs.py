"""The code in docs/models.md runs, in order, as one program, on small weights."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import safetensors.numpy
from byways.experiments import cli

ROOT = Path(__file__).parents[3]
CHECKPOINT = ROOT / "tests" / "parity" / "vmoe" / "checkpoint_v1" / "tiny_single"
CLIP = ROOT / "tests" / "parity" / "clip"


def clip_with_its_tokenizer(folder):
    """The fixture, with rows for the pieces of the small tokenizer."""
    shutil.copytree(CLIP / "hf_clip_quick", folder)
    shutil.copy(CLIP / "tokenizer" / "tokenizer.json", folder)
    arrays = safetensors.numpy.load_file(folder / "model.safetensors")
    name = "text_model.embeddings.token_embedding.weight"
    arrays[name] = np.resize(arrays[name], (544, 16))
    safetensors.numpy.save_file(arrays, folder / "model.safetensors")
    settings = json.loads((folder / "config.json").read_text())
    settings["text_config"]["vocab_size"] = 544
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


def test_the_page_runs(tmp_path, monkeypatch):
    page = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["import", "vmoe", str(CHECKPOINT), "vmoe_b16"]) == 0
    theirs = clip_with_its_tokenizer(tmp_path / "theirs")
    assert cli.main(["import", "clip", str(theirs), "clip"]) == 0
    names = {}
    exec("\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL)), names)
    assert len(names["losses"]) == 2
    assert names["config"].num_classes == 10
    assert np.isfinite(names["similarity"]).all()
