"""The pipelines: the contract of a batch, exact resume, masks of the last batch."""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys

import byways.datasets as data
import numpy as np
import pytest

CONFIG = data.DataConfig(scenes_share=0.25)


def equal(left: dict, right: dict) -> bool:
    return left.keys() == right.keys() and all(np.array_equal(left[k], right[k]) for k in left)


def test_the_contract_of_a_batch():
    stream = data.make_train_stream(CONFIG, 32, seed=0)
    batch = next(stream)
    stream.close()
    kinds = {k: (v.shape, v.dtype.name) for k, v in batch.items()}
    assert kinds == {
        "image": ((32, 32, 32, 3), "uint8"),
        "text": ((32, 12), "int32"),
        "text_mask": ((32, 12), "bool"),
        "mask": ((32,), "bool"),
        "id": ((32,), "int64"),
        "concept": ((32,), "int32"),
    }
    assert batch["text_mask"][:, 0].all()
    plain = batch["concept"][:24]
    assert len(set(plain.tolist())) == 24
    assert (batch["concept"][24:] == -1).all()
    assert batch["id"][24:].tolist() == list(range(-1, -9, -1))


def test_resume_is_exact():
    whole = data.make_train_stream(CONFIG, 16, seed=4)
    first = [next(whole) for _ in range(5)]
    state = json.loads(json.dumps(whole.get_state()))
    cut_then = whole.cut
    rest = [next(whole) for _ in range(5)]
    whole.close()

    again = data.make_train_stream(CONFIG, 16, seed=4)
    assert all(equal(a, next(again)) for a in first)
    again.set_state(state)
    assert again.cut == cut_then
    resumed = [next(again) for _ in range(5)]
    again.close()
    assert all(equal(a, b) for a, b in zip(rest, resumed, strict=True))
    assert again.cut == whole.cut


def test_a_worker_process_gives_the_same_batches_and_resumes(snapshots):
    # A small set, since each process gets a copy; and one process, since each takes seconds.
    config = data.DataConfig(name="snapshots", data_dir=str(snapshots))
    plain = data.make_train_stream(config, 4, seed=4)
    expected = [next(plain) for _ in range(4)]
    plain.close()
    stream = data.make_train_stream(dataclasses.replace(config, workers=1), 4, seed=4)
    assert all(equal(next(stream), batch) for batch in expected[:2])
    state = json.loads(json.dumps(stream.get_state()))
    for _ in range(2):
        stream.set_state(state)
        assert all(equal(next(stream), batch) for batch in expected[2:])
    stream.close()


_INTERRUPTED = """
import os, signal, sys, byways.datasets as data
if __name__ == "__main__":
    config = data.DataConfig(name="snapshots", data_dir=sys.argv[1], workers=1)
    stream = data.make_train_stream(config, 4)
    next(stream)
    signal.signal(signal.SIGINT, lambda *_: print("interrupted"))
    os.killpg(0, signal.SIGINT)
    # More than are read ahead.
    print(sum(1 for _ in zip(range(20), stream)), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_worker_survives_an_interrupt_and_ends_with_its_parent(snapshots, tmp_path):
    (tmp_path / "interrupted.py").write_text(_INTERRUPTED)
    command = [sys.executable, "interrupted.py", str(snapshots)]
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=pipe, text=True, start_new_session=True
    )
    try:
        # The worker writes there too, so that the end of it is the end of both.
        printed, _ = process.communicate(timeout=120)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert printed.split() == ["interrupted", "20"]
    assert process.returncode == -signal.SIGKILL


def test_seeds_differ():
    def first(seed):
        stream = data.make_train_stream(CONFIG, 16, seed)
        batch = next(stream)
        stream.close()
        return batch

    assert equal(first(0), first(0))
    assert not equal(first(0), first(1))


def test_cut_texts_are_counted(examples):
    config = dataclasses.replace(CONFIG, text_length=2)
    stream = data.make_train_stream(config, 16)
    for _ in range(3):
        next(stream)
    stream.close()
    captions = data.TrainBatches(examples, data.Tokenizer(), config, 16)
    tokenizer = data.Tokenizer()
    for index in range(3):
        tokenizer.encode(captions.captions(index), 2)
    assert stream.cut == tokenizer.cut > 0


def test_objects_only(examples):
    config = data.DataConfig(objects_only=True)
    batch = data.TrainBatches(examples, data.Tokenizer(), config, 64)[0]
    assert all(examples.concepts[c].is_object for c in batch["concept"])


def test_scenes_by_name():
    stream = data.make_train_stream(data.DataConfig(name="emoji_scenes"), 8)
    assert (next(stream)["concept"] == -1).all()
    stream.close()


def test_more_rows_than_concepts(snapshots):
    config = data.DataConfig(name="snapshots", data_dir=str(snapshots))
    stream = data.make_train_stream(config, 16)
    batch = next(stream)
    stream.close()
    assert batch["image"].shape == (16, 32, 32, 3)
    assert set(batch["concept"].tolist()) == set(range(6))


def test_a_caption_that_names_a_side_keeps_its_image(make_prepared, picture):
    import io

    from PIL import Image

    half = Image.new("RGB", (32, 32), "white")
    half.paste((0, 0, 0), (0, 0, 16, 32))
    file = io.BytesIO()
    half.save(file, "PNG")
    folder = make_prepared([(file.getvalue(), "black on the left"), (picture((0, 0, 0)), "black")])
    still = data.AugmentConfig(
        shift=0.0, zoom=0.0, rotate=0.0, colour=0.0, flip=True, background=0.0
    )
    config = data.DataConfig(name="snapshots", data_dir=str(folder), augment=still)
    stream = data.make_train_stream(config, 2)
    for _ in range(40):
        batch = next(stream)
        image = batch["image"][batch["concept"] == 0]
        assert (image[:, :, :16] == 0).all()
        assert (image[:, :, 16:] == 255).all()
    stream.close()


def test_evaluation_covers_a_split_once_and_masks_the_rest(examples):
    batches = list(data.evaluation_batches(CONFIG, "validation", 100))
    assert len(batches) == 10
    assert all(len(v) == 100 for b in batches for v in b.values())
    ids = np.concatenate([b["id"][b["mask"]] for b in batches])
    assert ids.tolist() == examples.rows("validation").tolist()
    last = batches[-1]
    padding = ~last["mask"]
    assert padding.sum() == 52
    assert (last["id"][padding] == -1).all()
    assert not last["text_mask"][padding].any()
    assert np.array_equal(batches[0]["image"], examples.images(ids[:100]))


def test_evaluation_of_one_artists_objects(examples):
    batches = data.evaluation_batches(CONFIG, "test", 256, artist="noto", objects_only=True)
    concepts = np.concatenate([b["concept"][b["mask"]] for b in batches])
    assert len(concepts) == len(set(concepts.tolist())) == 837


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: data.make_train_stream(CONFIG, 0), "batch_size is 0"),
        (lambda: data.make_train_stream(data.DataConfig(scenes_share=2.0), 8), "scenes_share"),
        (lambda: data.make_train_stream(data.DataConfig(workers=-1), 8), "workers is -1"),
        (lambda: data.evaluation_batches(CONFIG, "dev", 8), "No split 'dev'"),
        (lambda: data.evaluation_batches(CONFIG, "test", 0), "batch_size is 0"),
    ],
)
def test_values_out_of_range(call, message):
    with pytest.raises(ValueError, match=message):
        call()
