"""The demo corpus: its plan, its scores, its sound, and that it is the same in every run."""

import csv
import subprocess
import sys
import textwrap
from collections import Counter

import numpy as np
import pytest
import soundfile

from genrecls import demo
from genrecls.demo import classical, mix, rap
from genrecls.demo.notation import read_chords, read_melody

SMALL = {"n_tracks": 2, "n_segments": 2, "progress": False, "jobs": 2}
FOLDERS = ("classique", "rap", "classique_test", "rap_test")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A corpus of two tracks per folder, of two segments each."""
    return demo.make_demo(tmp_path_factory.mktemp("demo"), **SMALL)


def read_table(root):
    with (root / "tracks.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def read_segments(path):
    sound, rate = soundfile.read(path, dtype="float32")
    count, remainder = divmod(len(sound), 15 * rate)
    assert 2 * rate < remainder < 13 * rate
    return sound[: count * 15 * rate].reshape(count, 15 * rate, -1)


def folder(track):
    return track.path.split("/")[0]


def test_make_demo_does_not_overwrite_another_corpus(tmp_path):
    (tmp_path / "tracks.csv").write_text("path,genre\na.mp3,x\n")
    with pytest.raises(FileExistsError, match="another corpus"):
        demo.make_demo(tmp_path, **SMALL)
    assert (tmp_path / "tracks.csv").read_text() == "path,genre\na.mp3,x\n"


def test_make_demo_names_a_missing_package_and_the_extra(monkeypatch, tmp_path):
    monkeypatch.setattr(demo, "_EXTRA_PACKAGES", ("no_such_package",))
    with pytest.raises(ImportError, match=r"no_such_package .*: pip install \"\.\[demo\]\""):
        demo.make_demo(tmp_path)


def test_demo_imports_without_the_packages_of_its_extra():
    # A module that is None in sys.modules cannot be imported.
    program = f"""
        import sys
        sys.modules |= dict.fromkeys({demo._EXTRA_PACKAGES})
        from genrecls.demo import PLAN
        print(len(PLAN))
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    assert subprocess.run(command, capture_output=True, check=True).stdout.strip() == b"30"


def test_plan_has_the_segments_of_the_original_lab():
    segments, tracks = Counter(), Counter()
    for track in demo.PLAN:
        segments[folder(track)] += track.segments
        tracks[folder(track)] += 1
    assert segments == {"classique": 115, "rap": 131, "classique_test": 70, "rap_test": 70}
    assert tracks == {"classique": 10, "rap": 10, "classique_test": 4, "rap_test": 6}
    lengths = {name: sorted(t.segments for t in demo.PLAN if folder(t) == name) for name in FOLDERS}
    assert lengths["classique_test"].count(14) == 1
    assert lengths["rap_test"][-3:] == [14, 14, 18]


def test_plan_has_no_artist_in_both_train_and_test():
    artists = {
        split: {t.artist for t in demo.PLAN if t.split == split} for split in ("train", "test")
    }
    assert not artists["train"] & artists["test"]


def test_plan_has_one_album_and_one_repeated_title():
    train = [t for t in demo.PLAN if t.split == "train"]
    classical_artists = Counter(t.artist for t in train if t.genre == "classique")
    assert max(classical_artists.values()) == 4
    titles = Counter(t.title for t in train)
    assert sorted(titles.values())[-2:] == [1, 2]
    assert len({t.path for t in demo.PLAN}) == len(demo.PLAN)


def test_plan_uses_every_work_ensemble_and_song():
    used = {genre: {t.score for t in demo.PLAN if t.genre == genre} for genre in FOLDERS[:2]}
    assert used == {"classique": set(classical.WORKS), "rap": set(rap.SONGS)}
    assert {t.ensemble for t in demo.PLAN} == {"", *classical.ENSEMBLES}


@pytest.mark.parametrize("work", classical.WORKS.values(), ids=classical.WORKS)
def test_works_have_full_bars_and_chords_for_each(work):
    for melody, chords in work.sections:
        bars = melody.split("|")
        if not work.figure:
            assert [read_melody(bar, work.sharps)[1] for bar in bars] == [work.bar] * len(bars)
        if chords:
            assert len(chords.split("|")) == len(bars)


def test_beats_have_one_character_per_sixteenth():
    for song in rap.SONGS.values():
        beat = song.beat
        rhythms = [beat.bass_line, *filter(None, (beat.kick, beat.snare, beat.hat))]
        assert {len(rhythm) for rhythm in rhythms} == {16}
        assert set("".join(rhythms)) <= set("Xxor.")


def test_read_melody_applies_key_octave_accidental_and_length():
    notes, length = read_melody("F2=F/_b,z3/2c'", 1)
    assert notes == [(0, 2, 66), (2, 0.5, 65), (2.5, 1, 70), (5, 1, 84)]
    assert length == 6


def test_read_chords_refuses_an_unknown_name():
    with pytest.raises(ValueError, match="'H7' is not a chord"):
        read_chords("C|H7", 8)


def test_small_corpus_has_folders_table_and_files(small):
    rows = read_table(small)
    assert ",".join(rows[0]) == "path,genre,artist,title,split,segments,source,licence"
    assert Counter(row["path"].split("/")[0] for row in rows) == dict.fromkeys(FOLDERS, 2)
    assert {row["path"] for row in rows} == {
        path.relative_to(small).as_posix() for path in small.rglob("*.mp3")
    }
    artists = Counter((row["genre"], row["split"], row["artist"]) for row in rows)
    assert set(artists.values()) == {1}


def test_small_corpus_is_audible_balanced_and_not_clipped(small):
    for row in read_table(small):
        sound = read_segments(small / row["path"])
        assert len(sound) == int(row["segments"]) == 2
        assert np.isfinite(sound).all()
        assert np.abs(sound).max() < 1
        left, right = np.sqrt((sound**2).mean((0, 1)))
        assert 0.5 < left / right < 2
        assert np.sqrt((sound**2).mean((1, 2))).min() > 0.02
        assert np.abs(sound.mean(1)).max() < 0.005


def test_second_call_renders_only_missing_and_incomplete_files(small):
    before = {path: path.stat().st_mtime_ns for path in small.rglob("*.mp3")}
    missing, incomplete = sorted(before)[:2]
    contents = {path: path.read_bytes() for path in (missing, incomplete)}
    missing.unlink()
    incomplete.write_bytes(contents[incomplete][:100])
    demo.make_demo(small, **SMALL)
    assert {path: path.read_bytes() for path in contents} == contents
    kept = before.keys() - contents.keys()
    assert all(path.stat().st_mtime_ns == before[path] for path in kept)


def test_write_mp3_leaves_nothing_behind_when_it_fails(monkeypatch, tmp_path):
    def fail():
        raise OSError("no space left")

    monkeypatch.setattr(mix.av, "AudioFifo", fail)
    with pytest.raises(OSError, match="no space left"):
        mix.write_mp3(tmp_path / "a.mp3", np.zeros((44_100, 2)), title="a")
    assert not list(tmp_path.iterdir())


def test_tracks_do_not_depend_on_the_run_or_the_number_of_jobs(small, tmp_path):
    alone = demo.make_demo(tmp_path, **SMALL | {"n_tracks": 1, "jobs": 1})
    paths = [path.relative_to(alone) for path in alone.rglob("*.mp3")]
    assert len(paths) == 4
    assert all((alone / path).read_bytes() == (small / path).read_bytes() for path in paths)


@pytest.mark.slow
def test_whole_tracks_have_the_planned_segments(tmp_path, monkeypatch):
    # All 30 tracks would take minutes.
    shortest = {track.genre: track for track in sorted(demo.PLAN, key=lambda t: -t.segments)}
    monkeypatch.setattr(demo, "PLAN", tuple(shortest.values()))
    root = demo.make_demo(tmp_path, progress=False)
    segments = 0
    for row in read_table(root):
        sound = read_segments(root / row["path"])
        assert len(sound) == int(row["segments"])
        assert np.abs(sound).max() < 1
        segments += len(sound)
    size = sum(path.stat().st_size for path in root.rglob("*.mp3"))
    assert size / segments * 386 < 150e6  # all segments of the demo
