"""`byways doctor`: prints what is there, and fails where something is missing."""

from byways.experiments import doctor


def test_it_finds_versions_devices_caches_and_data(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("BYWAYS_CACHE", str(tmp_path))
    (tmp_path / "jax").mkdir()
    (tmp_path / "jax" / "entry").write_bytes(b"x" * 1_500_000)
    assert doctor.examine() == 0
    out = capsys.readouterr().out
    for expected in ("byways", "jaxlib", "cpu:7", "1 files, 1.5 MB", "emoji_art", "GB free"):
        assert expected in out
    assert "OK: " in out
    assert out.endswith("all well\n")


def test_damaged_data_is_a_problem(capsys, monkeypatch):
    import byways.datasets

    def damaged(name):
        raise OSError(f"{name}: the record file train-0 is corrupt")

    monkeypatch.setattr(byways.datasets, "open_data", damaged, raising=False)
    assert doctor.examine() == 1
    assert "problem: emoji_art: the record file train-0 is corrupt" in capsys.readouterr().out
