"""The data of a run: what is wrong with it is told as a run's error."""

import dataclasses

import pytest
from byways.experiments import ExperimentConfig, RunError, RunFolder
from byways.experiments.train_data import open_training_data


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "No tokenizer at"), (b"a name", r"is not a SentencePiece model .* --data\.tokenizer")],
)
def test_a_file_that_is_no_tokenizer(tmp_path, content, message):
    file = tmp_path / "some.model"
    if content is not None:
        file.write_bytes(content)
    config = ExperimentConfig()
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, tokenizer=str(file)))
    with pytest.raises(RunError, match=message):
        open_training_data(config, RunFolder(tmp_path / "run"))
