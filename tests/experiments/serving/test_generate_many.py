"""`byways generate --prompts`: many texts together, each as it would be alone."""

import io
import json
import os
import signal
import threading

import pytest
from byways.datasets import TextCodes, TextDataConfig
from byways.experiments import cli
from byways.experiments.continuation import continue_texts
from byways.experiments.serving import islands
from byways.experiments.serving.prompts import Faulty, parse_lines
from byways.experiments.sources import find_source

from ..kinds import LANGUAGE
from ..test_kinds_used import untrained

LINES = [
    "a red",
    '"\\"quoted\\""',
    '{"prompt": "", "id": "free"}',
    "",
    '{"prompt": "a fox", "temperature": 1.5, "steps": 9}',
    '{"prompt": "a", "temperature": 1, "top_k": 5, "seed": 77}',
]


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    return untrained(tmp_path_factory.mktemp("decoder") / "run", LANGUAGE)


def run(capsys, *arguments):
    code = cli.main(["generate", *map(str, arguments)])
    said = capsys.readouterr()
    return code, [json.loads(line) for line in said.out.splitlines()], said.err


def test_each_line_is_what_the_command_makes_of_it_alone(decoder, tmp_path, capsys):
    file = tmp_path / "prompts.jsonl"
    file.write_text("\n".join(LINES) + "\n")
    code, found, said = run(capsys, decoder, "--prompts", file, "--steps", 6, "--seed", 3)
    assert code == 0
    assert "5 texts, " in said
    by_index = {record["index"]: record for record in found}
    assert sorted(by_index) == [0, 1, 2, 3, 4]  # blank lines do not count
    assert by_index[2]["id"] == "free"
    assert by_index[3]["seed"] == 6  # the first line's is 3
    assert "seed" not in by_index[0]
    source, codes = find_source(decoder), TextCodes(TextDataConfig())
    params = source.load().params
    alone = [
        ("a red", {"steps": 6}),
        ('"quoted"', {"steps": 6}),
        ("", {"steps": 6}),
        ("a fox", {"steps": 9, "temperature": 1.5, "seed": 6}),
        ("a", {"steps": 6, "temperature": 1.0, "top_k": 5, "seed": 77}),
    ]
    for index, (prompt, how) in enumerate(alone):
        (text,) = continue_texts(source.config, params, codes, [prompt], **how)
        record = by_index[index]
        assert (record["prompt"], record["text"]) == (prompt, text)
        assert record["tokens"] <= how["steps"]
        assert record["reason"] in ("length", "end")
        assert 0 < record["first_token_seconds"] <= record["seconds"]


def test_standard_input_is_served_as_it_comes_and_bad_lines_do_not_end_it(
    decoder, tmp_path, capsys, monkeypatch
):
    lines = ["a red\n", '{"prompt": 3}\n', "x" * 40 + "\n", '{"prompt": "b", "heat": 1}\n', "a\n"]
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(lines)))
    out = tmp_path / "out.jsonl"
    code, found, said = run(capsys, decoder, "--prompts", "-", "--steps", 3, "--out", out)
    assert (code, found) == (1, [])
    assert "3 of the prompts have no text" in said
    records = {r["index"]: r for r in map(json.loads, out.read_text().splitlines())}
    assert records[0]["tokens"] == 3
    assert records[4]["tokens"] == 3
    assert 'no "prompt" that is a text' in records[1]["error"]
    assert "longer than 24" in records[2]["error"]
    assert "'heat'; known are prompt, id" in records[3]["error"]
    code, _, said = run(capsys, decoder, "--prompts", "-", "--out", out)
    assert (code, "exists: name another file" in said) == (2, True)


def test_an_interrupt_leaves_whole_lines(decoder, tmp_path, capsys, monkeypatch):
    """One comes when two results are there; the third line never comes."""
    hold = threading.Event()

    def lines():
        yield "a red"
        yield "a fox"
        hold.wait(60)
        yield "never"

    class Out(io.StringIO):
        def write(self, text):
            if text.startswith("{") and '"index": 1' in text:
                os.kill(os.getpid(), signal.SIGINT)
            return super().write(text)

    monkeypatch.setattr("sys.stdin", lines())
    out = Out()
    monkeypatch.setattr("sys.stdout", out)
    code = cli.main(["generate", str(decoder), "--prompts", "-", "--steps", "4"])
    hold.set()
    assert code == 130
    records = [json.loads(line) for line in out.getvalue().splitlines()]
    assert 1 <= len(records) <= 2
    assert all(record["tokens"] <= 4 for record in records)


def test_what_cannot_be_is_refused_before_anything_is_started(decoder, tmp_path, capsys):
    def fails(*arguments):
        code, _, said = run(capsys, *arguments)
        return code, said

    file = tmp_path / "prompts.txt"
    file.write_text("fine\n" + "x" * 24 + '\n{"prompt"\n')
    code, said = fails(decoder, "--prompts", file)
    assert code == 2
    assert "prompt 2: a prompt of 25 tokens and 1 to make are longer than 24" in said
    assert "prompt 3: it begins like JSON and is none" in said
    assert "prompt 1:" not in said
    assert "it has no prompts" in fails(decoder, "--prompts", os.devnull)[1]
    assert "cannot be read" in fails(decoder, "--prompts", tmp_path / "none")[1]
    file.write_text("a\n")
    many = ["--prompts", file]
    assert "name one beginning" in fails(decoder)[1]
    assert "name one beginning" in fails(decoder, "x", *many)[1]
    assert "of no use to a single text" in fails(decoder, "x", "--islands", 2)[1]
    assert "1 or more, or 0" in fails(decoder, *many, "--islands", -1)[1]
    assert "name both" in fails(decoder, *many, "--prefill", 1)[1]
    assert "name both" in fails(decoder, *many, "--prefill", 1, "--decode", 0)[1]
    assert (
        "leave --islands out"
        in fails(decoder, *many, "--prefill", 1, "--decode", 2, "--islands", 2)[1]
    )
    assert "how many islands" in fails(decoder, *many, "--ray-address", "auto")[1]
    assert "--rows 0" in fails(decoder, *many, "--rows", 0)[1]
    assert "does not exist" in fails(tmp_path / "none", *many)[1]


def test_without_ray_the_extra_is_named(decoder, tmp_path, capsys, monkeypatch):
    from byways import runtime as rt

    def missing(*_, **__):
        raise rt.RayMissing("not installed: pip install 'byways[ray]'")

    monkeypatch.setattr(islands.rt, "RayRuntime", missing, raising=False)
    file = tmp_path / "prompts.txt"
    file.write_text("a\n")
    code, _, said = run(capsys, decoder, "--prompts", file, "--prefill", 1, "--decode", 2)
    assert (code, "pip install 'byways[ray]'" in said) == (1, True)


def test_lines_keep_their_text():
    found = list(parse_lines(["  two words \n", "\n", '"a\\nb"\n', "[1]\n", "{\n"]))
    assert [line.prompt for line in found[:3]] == ["  two words ", "a\nb", "[1]"]
    assert isinstance(found[3], Faulty)
    assert found[3].index == 3
