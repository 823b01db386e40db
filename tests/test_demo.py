"""The demo corpus: its shape, its sound, and that making it twice changes nothing."""

import csv
from collections import Counter

import numpy as np
import pytest

from genrecls import demo

soundfile = pytest.importorskip("soundfile")
for package in ("espeakng_loader", "joblib", "pretty_midi", "scipy", "tqdm"):
    pytest.importorskip(package)

TINY = {"n_tracks": 2, "n_segments": 2, "progress": False}
FOLDERS = ("classique", "rap", "classique_test", "rap_test")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return demo.make_demo(tmp_path_factory.mktemp("demo"), **TINY)


def table(root):
    with (root / "tracks.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def segments(path):
    sound, rate = soundfile.read(path, dtype="float32")
    count, rest = divmod(len(sound), 15 * rate)
    assert 2 * rate < rest < 13 * rate
    return sound[: count * 15 * rate].reshape(count, 15 * rate, -1)


def test_another_corpus_is_not_overwritten(tmp_path):
    (tmp_path / "tracks.csv").write_text("path,genre\na.mp3,x\n")
    with pytest.raises(FileExistsError, match="another corpus"):
        demo.make_demo(tmp_path, **TINY)


def folder(track):
    return track.path.split("/")[0]


def test_whole_plan_has_the_segments_of_the_original_lab():
    totals, tracks = Counter(), Counter()
    for track in demo.PLAN:
        totals[folder(track)] += track.segments
        tracks[folder(track)] += 1
    assert totals == {"classique": 115, "rap": 131, "classique_test": 70, "rap_test": 70}
    assert tracks == {"classique": 10, "rap": 10, "classique_test": 4, "rap_test": 6}
    lengths = {name: sorted(t.segments for t in demo.PLAN if folder(t) == name) for name in FOLDERS}
    assert lengths["classique_test"].count(14) == 1
    assert lengths["rap_test"][-3:] == [14, 14, 18]


def test_no_artist_is_in_both_train_and_test():
    artists = {
        split: {t.artist for t in demo.PLAN if t.split == split} for split in ("train", "test")
    }
    assert not artists["train"] & artists["test"]


def test_one_artist_has_an_album_and_one_title_comes_twice():
    train = [t for t in demo.PLAN if t.split == "train"]
    classical = Counter(t.artist for t in train if t.genre == "classique")
    assert max(classical.values()) == 4
    titles = Counter(t.title for t in train)
    assert sorted(titles.values())[-2:] == [1, 2]
    assert len({t.path for t in demo.PLAN}) == len(demo.PLAN)


def test_every_bar_of_the_scores_is_full():
    from genrecls.demo import scores, works

    for work in works.WORKS.values():
        for melody, chords in work.sections:
            bars = melody.split("|")
            if not work.figure:
                assert [scores.read_melody(bar, work.sharps)[1] for bar in bars] == (
                    [work.bar] * len(bars)
                ), work.name
            if chords:
                assert len(chords.split("|")) == len(bars), work.name


def test_melodies_are_read_with_key_octave_accidental_and_length():
    from genrecls.demo import scores

    notes, length = scores.read_melody("F2=F/_b,z3/2c'", 1)
    assert notes == [(0, 2, 66), (2, 0.5, 65), (2.5, 1, 70), (5, 1, 84)]
    assert length == 6


def test_tiny_corpus_has_folders_table_and_files(tiny):
    rows = table(tiny)
    assert ",".join(rows[0]) == "path,genre,artist,title,split,segments,source,licence"
    assert Counter(row["path"].split("/")[0] for row in rows) == dict.fromkeys(FOLDERS, 2)
    assert {row["path"] for row in rows} == {
        path.relative_to(tiny).as_posix() for path in tiny.rglob("*.mp3")
    }
    artists = Counter((row["genre"], row["split"], row["artist"]) for row in rows)
    assert set(artists.values()) == {1}


def test_tiny_corpus_sounds(tiny):
    for row in table(tiny):
        sound = segments(tiny / row["path"])
        assert len(sound) == int(row["segments"]) == 2
        assert np.isfinite(sound).all()
        assert np.abs(sound).max() < 1
        left, right = np.sqrt((sound**2).mean((0, 1)))
        assert 0.5 < left / right < 2
        assert np.sqrt((sound**2).mean((1, 2))).min() > 0.02
        assert np.abs(sound.mean(1)).max() < 0.005


def test_second_call_makes_nothing_again_but_what_is_missing(tiny):
    before = {path: path.stat().st_mtime_ns for path in tiny.rglob("*.mp3")}
    gone = sorted(before)[0]
    content = gone.read_bytes()
    gone.unlink()
    # What an interrupted run leaves is no track.
    gone.with_name(f".{gone.name}.part").write_bytes(content[:1000])
    demo.make_demo(tiny, **TINY, jobs=1)
    assert gone.read_bytes() == content
    assert all(path.stat().st_mtime_ns == time for path, time in before.items() if path != gone)
    assert not list(tiny.rglob("*.part"))


def test_tracks_are_equal_in_every_run_whatever_the_jobs(tmp_path):
    small = {"n_tracks": 1, "n_segments": 1, "progress": False}
    first = demo.make_demo(tmp_path / "a", **small, jobs=1)
    second = demo.make_demo(tmp_path / "b", **small, jobs=2)
    paths = [path.relative_to(first) for path in first.rglob("*.mp3")]
    assert len(paths) == 4
    assert all((first / path).read_bytes() == (second / path).read_bytes() for path in paths)


def test_missing_package_is_named_with_the_extra(monkeypatch, tmp_path):
    monkeypatch.setattr(demo, "_NEEDED", ("no_such_package",))
    with pytest.raises(ImportError, match=r"no_such_package.*genrecls\[demo\]"):
        demo.make_demo(tmp_path)


@pytest.mark.slow
def test_whole_corpus_has_its_segments(tmp_path):
    root = demo.make_demo(tmp_path, progress=False)
    for row in table(root):
        sound = segments(root / row["path"])
        assert len(sound) == int(row["segments"])
        assert np.abs(sound).max() < 1
    assert sum(path.stat().st_size for path in root.rglob("*.mp3")) < 150e6
