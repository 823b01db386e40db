import dataclasses
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import joblib
import matplotlib
import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import RATE, write_corpus

from genrecls import (
    AudioError,
    Corpus,
    FrontEnd,
    assign_splits,
    load_audio,
    mel_spectrogram,
    prepare,
    split_segments,
    to_image,
)
from genrecls._utils import cache
from genrecls.audio.fingerprint import fingerprint_file
from genrecls.errors import CorpusError, LeakError
from genrecls.features import prepare as prepare_module
from genrecls.features.extraction import extract_log_mels
from genrecls.features.stored import log_mels_entry, stored_log_mels

DEFAULT = FrontEnd.preset("default")
FIRST = "rap/rap 0 - Same Title.wav"

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("original") / "music", artists=2)


@pytest.fixture(scope="module")
def alone(original, tmp_path_factory):
    """Return the features that one process alone has made."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENRECLS_HOME", str(tmp_path_factory.mktemp("alone")))
        return prepared(original)


@pytest.fixture
def new_corpus(original, tmp_path):
    return shutil.copytree(original, tmp_path / "music")


@pytest.fixture
def corpus(new_corpus, alone, home):
    """A corpus that has been prepared."""
    shutil.copytree(alone.folder.parent, home / "data")
    return new_corpus


def prepared(path, front_end=DEFAULT, **options):
    return prepare(path, front_end, **{"jobs": 1, "progress": False, **options})


def hash_of(features, path):
    [sha256] = features.segments.loc[features.segments["path"] == path, "sha256"].unique()
    return sha256


def times(kind):
    """Return the time of change of every file of the entries of a kind."""
    return {file: file.stat().st_mtime_ns for file in cache.entry(kind, "").rglob("*.*")}


# The result


def test_prepare_returns_one_row_per_segment(new_corpus):
    features = prepared(new_corpus)
    spine = ["track_id", "path", "genre", "artist", "segment", "start_s", "end_s", "split"]
    assert features.segments.columns[:8].tolist() == spine
    assert features.segments.groupby("track_id").size().eq(2).all()
    assert features.failures.empty
    assert features.notes.empty


def test_log_mels_of_a_table_are_those_of_its_rows(corpus):
    features = prepared(corpus)
    rows = features.segments.sample(5, random_state=0)
    stored = features.log_mels(rows)
    assert stored.shape == (5, *DEFAULT.shape, 1)
    assert stored.dtype == np.float32
    for levels, row in zip(stored, rows.itertuples(), strict=True):
        computed, _, _ = extract_log_mels(corpus / row.path, DEFAULT)
        np.testing.assert_array_equal(levels[..., 0], computed[row.segment - 1])


def test_track_maps_the_stored_log_mels_into_memory(corpus, tmp_path, monkeypatch):
    features = prepared(corpus)
    sha256 = hash_of(features, FIRST)
    stored = stored_log_mels(DEFAULT, sha256)
    assert isinstance(stored, np.memmap)
    assert stored.shape == (2, *DEFAULT.shape)
    monkeypatch.setenv("GENRECLS_HOME", str(tmp_path / "elsewhere"))
    np.testing.assert_array_equal(features.track(sha256)[..., 0], stored)
    with pytest.raises(CorpusError, match="is missing; 'genrecls train' computes it"):
        stored_log_mels(DEFAULT, sha256)


@pytest.mark.parametrize("preset", ["original", "default"])
def test_half_precision_costs_nothing_that_an_image_shows(preset, rng):
    front_end = FrontEnd.preset(preset)
    levels = mel_spectrogram(rng.normal(0, 0.01, front_end.segment_samples), front_end)
    stored = levels.astype(np.float16)
    assert np.abs(stored - levels).max() <= 0.032
    difference = np.abs(to_image(stored, front_end) - to_image(levels, front_end))
    colors = matplotlib.colormaps["viridis"](range(256)).astype(np.float32)
    one_step = np.abs(np.diff(colors, axis=0)).max()
    assert difference.max() <= one_step


def test_front_ends_do_not_share_log_mels(corpus):
    other = dataclasses.replace(DEFAULT, n_mels=64)
    first, second = prepared(corpus), prepared(corpus, other)
    rows = first.segments.head(2)
    assert first.log_mels(rows).shape[1:3] == DEFAULT.shape
    assert second.log_mels(rows).shape[1:3] == other.shape


# Tracks that cannot be used


def test_bad_files_are_listed_with_their_reasons(corpus):
    (corpus / "rap" / "empty.mp3").touch()
    (corpus / "rap" / "text.mp3").write_text("not sound")
    (corpus / "rap" / "folder.mp3").mkdir()
    soundfile.write(corpus / "rap" / "short.wav", np.zeros(8000), 8000)
    features = prepared(corpus)
    reasons = features.failures.set_index("path")["reason"]
    assert set(reasons.index) == {"rap/empty.mp3", "rap/text.mp3", "rap/short.wav"}
    assert "1 s of sound is shorter" in reasons["rap/short.wav"]
    assert len(features.segments) == 16


def test_a_bad_file_does_not_make_the_tables_again(corpus, monkeypatch):
    (corpus / "rap" / "text.mp3").write_text("not sound")
    first = prepared(corpus)
    monkeypatch.setattr(prepare_module, "find_recordings", None)  # calling it would fail
    again = prepared(corpus)
    pd.testing.assert_frame_equal(again.segments, first.segments)
    assert again.failures["path"].tolist() == ["rap/text.mp3"]


def test_notes_name_a_file_where_it_is_now(corpus, tmp_path, rng):
    y = rng.normal(0, 0.1, 45 * RATE)
    y[15 * RATE : 30 * RATE] = 0
    soundfile.write(corpus / "rap" / "MC - Gap.wav", y, RATE)
    prepared(corpus)
    notes = prepared(corpus.rename(tmp_path / "moved")).notes
    assert notes["note"].tolist() == ["'rap/MC - Gap.wav': 1 of 3 segments are silent and left out"]


def test_a_file_that_is_bad_at_its_end_leaves_nothing(corpus):
    y = np.full(40 * RATE, 0.1, np.float32)
    y[-1] = np.nan
    soundfile.write(corpus / "rap" / "nan.wav", y, RATE, subtype="FLOAT")
    features = prepared(corpus)
    assert "NaN or infinite" in features.failures["reason"].item()
    assert len(list(cache.entry("log_mels", "").iterdir())) == 8


def test_a_genre_without_usable_tracks_is_an_error(tmp_path):
    root = write_corpus(tmp_path / "music", genres=("classique",), artists=2)
    (root / "rap").mkdir()
    (root / "rap" / "text.mp3").write_text("not sound")
    with pytest.raises(CorpusError, match="'rap'"):
        prepared(root)


def test_strict_fails_at_a_bad_file_with_its_reason(corpus):
    (corpus / "rap" / "text.mp3").write_text("not sound")
    for _ in range(2):
        with pytest.raises(CorpusError, match=r"1 of 9 tracks cannot be used:\n.*text.mp3"):
            prepared(corpus, strict=True)
        assert len(prepared(corpus).failures) == 1


def test_files_that_may_not_be_read_are_failures_and_refused_if_strict(corpus):
    (corpus / "rap" / "broken.mp3").symlink_to("gone.mp3")
    assert prepared(corpus).failures["path"].tolist() == ["rap/broken.mp3"]
    with pytest.raises(CorpusError, match=r"cannot be read: 'rap/broken.mp3'"):
        prepared(corpus, strict=True)


def test_a_track_that_failed_is_tried_again(new_corpus, tmp_path):
    """The table does not show why a file could not be read."""
    read = Corpus.read(new_corpus)
    (new_corpus / FIRST).rename(tmp_path / "away.wav")
    first = prepare(read, DEFAULT, jobs=1, progress=False)
    assert first.failures["path"].tolist() == [FIRST]
    (tmp_path / "away.wav").rename(new_corpus / FIRST)
    again = prepare(read, DEFAULT, jobs=1, progress=False)
    assert again.failures.empty
    assert len(again.segments) == len(first.segments) + 2


def test_silent_segments_are_left_out_unless_the_front_end_keeps_them(corpus):
    y, rate = soundfile.read(corpus / FIRST)
    soundfile.write(corpus / FIRST, np.concatenate([y[: 15 * rate], np.zeros(15 * rate)]), rate)
    features = prepared(corpus)
    kept = features.segments[features.segments["path"] == FIRST]
    assert kept["segment"].tolist() == [1]
    [note] = features.notes.loc[features.notes["path"] == FIRST, "note"]
    assert "1 of 2 segments are silent" in note
    both = prepared(corpus, dataclasses.replace(DEFAULT, skip_silence=False))
    assert (both.segments["path"] == FIRST).sum() == 2
    assert (both.segments["sounding"] == 1).all()


def test_prepare_states_the_share_of_a_segment_that_sounds(corpus):
    y, rate = soundfile.read(corpus / FIRST)
    y = np.concatenate([y[: 15 * rate], np.zeros(14 * rate), y[15 * rate : 16 * rate]])
    soundfile.write(corpus / FIRST, y, rate)
    segments = prepared(corpus).segments
    of_first = segments["path"] == FIRST
    assert segments.loc[of_first, "sounding"].tolist() == [1, pytest.approx(1 / 15, abs=0.01)]
    assert (segments.loc[~of_first, "sounding"] == 1).all()


def test_a_silent_track_cannot_be_used(corpus):
    soundfile.write(corpus / "rap" / "MC - Nothing.wav", np.zeros(16 * RATE), RATE)
    features = prepared(corpus)
    assert features.failures["path"].tolist() == ["rap/MC - Nothing.wav"]
    assert "all of it is silent" in features.failures["reason"].item()
    log_mels, table, _ = extract_log_mels(corpus / "rap" / "MC - Nothing.wav", DEFAULT)
    assert np.isfinite(log_mels).all()
    assert (table["sounding"] == 0).all()


# Recordings


def copy_recording(file, copy, *, gain=1.0, start_s=0.0):
    """Write the same recording in the format that the name of the copy has."""
    copy.parent.mkdir(exist_ok=True)
    soundfile.write(copy, gain * soundfile.read(file)[0][round(start_s * RATE) :], RATE)


def test_copies_in_other_formats_share_recording_and_group(corpus):
    copy_recording(corpus / FIRST, corpus / "rap" / "Pirate - Copy.mp3")
    copy_recording(corpus / FIRST, corpus / "rap" / "Late - Quiet.ogg", gain=0.3, start_s=7.3)
    features = prepared(corpus)
    tracks = features.segments.drop_duplicates("track_id").set_index("path")
    copies = tracks.loc[[FIRST, "rap/Pirate - Copy.mp3", "rap/Late - Quiet.ogg"]]
    assert copies["recording"].nunique() == copies["group"].nunique() == 1
    assert copies["sha256"].nunique() == copies["artist"].nunique() == 3
    others = tracks.drop(copies.index)
    assert len(others) == others["recording"].nunique() == others["group"].nunique() == 7
    assert not set(others["group"]) & set(copies["group"])
    pairs = {frozenset(note.split("'")[1::2]) for note in features.notes["note"]}
    assert pairs == {frozenset([a, b]) for a in copies.index for b in copies.index if a < b}


def test_artists_that_share_a_recording_are_one_group(corpus):
    """A compilation under other names connects all tracks of both artists."""
    copy_recording(corpus / FIRST, corpus / "rap" / "rap 1 - Feature.mp3")
    groups = prepared(corpus).segments.groupby("path")["group"].first()
    linked = groups[[FIRST, "rap/rap 1 - Feature.mp3", "rap/rap 1 - Same Title.wav"]]
    assert linked.nunique() == 1
    assert groups.nunique() == 7


@pytest.mark.parametrize("split_by", ["artist", "track", "segment"])
def test_a_copy_among_the_test_tracks_is_refused_with_the_pair(corpus, split_by):
    copy_recording(corpus / FIRST, corpus / "rap_test" / "Pirate - Copy.mp3")
    segments = prepared(corpus).segments
    pair = "'rap_test/Pirate - Copy.mp3' and 'rap/rap 0 - Same Title.wav'"
    with pytest.raises(LeakError, match=f"recording .* in test and (train|validation): {pair}"):
        assign_splits(segments, split_by=split_by)


# Extraction


def test_channel_is_the_first_one_or_the_mix(tmp_path):
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16 * 44100) / 44100)
    soundfile.write(tmp_path / "left.wav", np.stack([tone, 0 * tone], axis=1), 44100)
    soundfile.write(tmp_path / "right.wav", np.stack([0 * tone, tone], axis=1), 44100)
    left, right = (
        extract_log_mels(tmp_path / f"{side}.wav", FrontEnd.preset("original"))[0].max()
        for side in ("left", "right")
    )
    assert left > 60
    assert right == -100
    mixes = [extract_log_mels(tmp_path / f"{side}.wav", DEFAULT)[0] for side in ("left", "right")]
    np.testing.assert_allclose(*mixes, atol=1e-3)


def test_a_short_file_can_be_padded(tmp_path, rng):
    soundfile.write(tmp_path / "short.wav", rng.normal(0, 0.1, 10 * RATE), RATE)
    with pytest.raises(AudioError, match="10 s of sound is shorter than one segment of 15 s"):
        extract_log_mels(tmp_path / "short.wav", DEFAULT)
    levels, table, _ = extract_log_mels(tmp_path / "short.wav", DEFAULT, pad=True)
    assert levels.shape == (1, *DEFAULT.shape)
    assert table["end_s"].tolist() == [10.0]
    assert table["sounding"].tolist() == [pytest.approx(10 / 15, abs=0.01)]


@pytest.mark.parametrize(("step_s", "pad"), [(None, False), (None, True), (5, False), (5, True)])
def test_extraction_in_blocks_equals_the_whole_track(tmp_path, rng, step_s, pad):
    y = rng.normal(0, 0.1, (44100 * 52, 2)).astype(np.float32)
    soundfile.write(tmp_path / "noise.wav", y, 44100, subtype="FLOAT")
    mix, rate = load_audio(tmp_path / "noise.wav", sample_rate=DEFAULT.sample_rate)
    segments, expected = split_segments(mix, sample_rate=rate, step_s=step_s, pad=pad)
    levels, table, _ = extract_log_mels(tmp_path / "noise.wav", DEFAULT, step_s=step_s, pad=pad)
    np.testing.assert_allclose(levels, mel_spectrogram(segments, DEFAULT), atol=0.05)
    pd.testing.assert_frame_equal(table.drop(columns="sounding"), expected)


@pytest.mark.parametrize("step_s", [None, 5.0])
def test_extraction_refuses_sound_that_is_too_long(step_s, rng):
    y = rng.normal(0, 0.1, 61 * RATE)
    options = {"sample_rate": RATE, "step_s": step_s}
    with pytest.raises(AudioError, match="more than 1 minutes"):
        extract_log_mels(y, DEFAULT, max_duration_s=60, **options)
    extract_log_mels(y, DEFAULT, max_duration_s=62, **options)


def test_a_truncated_file_with_too_little_sound_names_the_reason(tmp_path, rng):
    whole, rest = tmp_path / "whole.flac", tmp_path / "rest.flac"
    soundfile.write(whole, rng.normal(0, 0.1, 60 * RATE), RATE)
    rest.write_bytes(whole.read_bytes()[: whole.stat().st_size // 10])
    with pytest.raises(AudioError, match=r"60.0 s.*Export it again"):
        extract_log_mels(rest, DEFAULT)


# The cache


def test_stored_log_mels_survive_renaming(corpus):
    prepared(corpus)
    before = times("log_mels")
    assert sum(file.name == "log_mels.npy" for file in before) == 8
    (corpus / FIRST).rename(corpus / "rap" / "rap 0 - New.wav")
    features = prepared(corpus)
    assert times("log_mels") == before
    assert "rap/rap 0 - New.wav" in set(features.segments["path"])


def test_a_changed_file_is_computed_again(corpus):
    first = prepared(corpus).segments
    soundfile.write(corpus / FIRST, soundfile.read(corpus / FIRST)[0] * 0.5, RATE)
    second = prepared(corpus).segments
    assert len(set(second["sha256"]) - set(first["sha256"])) == 1


def test_lost_fingerprints_are_computed_again(corpus):
    first = prepared(corpus).segments
    for sha256 in first["sha256"].unique():
        file = fingerprint_file(sha256)
        shutil.rmtree(file) if file.is_dir() else file.unlink()
    shutil.rmtree(cache.entry("corpora", ""))
    pd.testing.assert_frame_equal(prepared(corpus).segments, first)
    assert all(fingerprint_file(sha256).exists() for sha256 in first["sha256"])


@pytest.mark.parametrize(
    ("kind", "harm"),
    [
        *(("log_mels", harm) for harm in ("cut", "changed", "emptied", "gone", "index")),
        *(("corpora", harm) for harm in ("changed", "index")),
    ],
)
def test_damaged_entries_are_computed_again_with_one_warning(corpus, caplog, kind, harm):
    first = prepared(corpus)
    log_mels = first.log_mels(first.segments)
    entry = next(cache.entry(kind, "").iterdir())
    file = next(file for file in entry.iterdir() if file.name != "index.json")
    content = bytearray(file.read_bytes())
    content[-10] ^= 255
    {
        "cut": lambda: file.write_bytes(content[:-50]),
        "changed": lambda: file.write_bytes(content),
        "emptied": lambda: file.write_bytes(b""),
        "gone": file.unlink,
        "index": lambda: (entry / "index.json").write_text("[]"),
    }[harm]()
    again = prepared(corpus)
    assert len({record.getMessage() for record in caplog.records}) == 1
    assert "is damaged; it is computed again" in caplog.text
    np.testing.assert_array_equal(again.log_mels(again.segments), log_mels)
    pd.testing.assert_frame_equal(again.segments, first.segments)
    caplog.clear()
    prepared(corpus)
    assert not caplog.records


def test_a_prepared_corpus_is_loaded_without_opening_its_files(corpus, monkeypatch):
    copy_recording(corpus / FIRST, corpus / "rap" / "Pirate - Copy.mp3")
    read = Corpus.read(corpus)
    first = prepare(read, DEFAULT, jobs=1, progress=False)
    for name in ("open_audio", "find_recordings"):
        monkeypatch.setattr(prepare_module, name, None)  # calling it would fail
    second = prepare(read, DEFAULT, progress=False)
    for table in ("segments", "failures", "notes"):
        pd.testing.assert_frame_equal(getattr(first, table), getattr(second, table))


def test_a_file_that_changes_while_it_is_read_is_not_stored(new_corpus):
    read = Corpus.read(new_corpus)
    first, other = (new_corpus / read.tracks["path"].iloc[i] for i in (0, -1))
    shutil.copy(other, first)
    features = prepare(read, DEFAULT, jobs=1, progress=False)
    [reason] = features.failures["reason"]
    assert "was changed while it was read). Read the corpus again" in reason
    assert cache.load(log_mels_entry(DEFAULT, read.tracks["sha256"].iloc[0])) is None
    assert len(prepared(new_corpus).failures) == 0


def test_a_file_that_is_deleted_while_it_is_read_is_left_out(new_corpus, monkeypatch):
    def check_unchanged(path, sha256):
        if path == new_corpus / FIRST:
            path.unlink()
        return check(path, sha256)

    check = prepare_module.check_unchanged
    monkeypatch.setattr(prepare_module, "check_unchanged", check_unchanged)
    [reason] = prepared(new_corpus).failures["reason"]
    assert "rap 0 - Same Title.wav' cannot be used (file: cannot be read any more)" in reason


def test_the_largest_file_comes_first(new_corpus, monkeypatch):
    sizes = []

    def store_track(path, *_):
        sizes.append(path.stat().st_size)
        return AudioError(path, {"test": "not now"}, "")

    file = new_corpus / Corpus.read(new_corpus).tracks["path"].iloc[-1]
    file.write_bytes(file.read_bytes() + bytes(1000))
    monkeypatch.setattr(prepare_module, "_store_track", store_track)
    with pytest.raises(CorpusError, match="not now"):
        prepared(new_corpus)
    assert sizes[0] == file.stat().st_size > sizes[1]
    assert sizes == sorted(sizes, reverse=True)


def test_old_leftovers_of_killed_processes_are_deleted(corpus):
    prepared(corpus)
    old, new = cache.entry("log_mels", ".old.1"), cache.entry("log_mels", ".new.1")
    for folder in (old, new):
        folder.mkdir()
    os.utime(old, (1, 1))
    soundfile.write(corpus / FIRST, soundfile.read(corpus / FIRST)[0] * 0.5, RATE)
    prepared(corpus)
    assert not old.exists()
    assert new.exists()


def test_entries_are_named_by_front_end_and_file(corpus):
    features = prepared(corpus)
    sha256 = hash_of(features, FIRST)
    entry = log_mels_entry(DEFAULT, sha256)
    assert entry.name == f"{DEFAULT.log_mel_uid}-{sha256}"
    assert cache.load(entry) is not None


# Several processes


def start_prepare(corpus, home):
    code = (
        "import sys, genrecls; "
        "genrecls.prepare(genrecls.Corpus.read(sys.argv[1]), jobs=1, progress=False)"
    )
    environment = {**os.environ, "GENRECLS_HOME": str(home)}
    return subprocess.Popen([sys.executable, "-c", code, str(corpus)], env=environment)


def complete_entries(home):
    return [*home.glob("data/log_mels-*/[!.]*/index.json")]


def assert_same(features, alone):
    pd.testing.assert_frame_equal(features.segments, alone.segments)
    log_mels, expected = (f.log_mels(f.segments) for f in (features, alone))
    np.testing.assert_array_equal(log_mels, expected)


def test_two_processes_may_prepare_the_same_corpus(new_corpus, home, alone):
    both = [start_prepare(new_corpus, home) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert not list(home.glob("data/*/.*"))
    assert_same(prepared(new_corpus), alone)


def test_workers_write_where_the_caller_says(new_corpus, home, monkeypatch):
    """The workers of joblib outlive a change of the environment."""
    list(joblib.Parallel(n_jobs=2)(joblib.delayed(time.sleep)(0.1) for _ in range(2)))
    monkeypatch.setenv("GENRECLS_HOME", str(home / "other"))
    assert len(prepared(new_corpus, jobs=2).segments) == 16
    assert len(complete_entries(home / "other")) == 8
    assert not (home / "data").exists()


def test_a_killed_run_continues_where_it_stopped(new_corpus, home, alone):
    process = start_prepare(new_corpus, home)
    while len(complete_entries(home)) < 2:
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    done = {file: file.stat().st_mtime_ns for file in complete_entries(home)}
    features = prepared(new_corpus)
    assert {file: file.stat().st_mtime_ns for file in done} == done
    assert_same(features, alone)


def test_memory_does_not_grow_with_the_length_of_a_file(tmp_path, home):
    noise = np.random.default_rng(0).normal(0, 0.1, (4 * 60 * RATE, 2)).astype(np.float32)
    code = (
        "import re, sys; from pathlib import Path; from genrecls import FrontEnd; "
        "from genrecls._utils.io import hash_file; "
        "from genrecls.features.prepare import _store_track; out = Path(sys.argv[2]); "
        "file = Path(sys.argv[1]); "
        "meta = _store_track(file, hash_file(file), out / 'x', out / 'print', FrontEnd()); "
        "assert len(meta['segments']['segment']) == int(sys.argv[3]); "
        # Not ru_maxrss, which has that of the process of the tests, too.
        r"print(re.search(r'VmHWM:\s+(\d+)', Path('/proc/self/status').read_text())[1])"
    )
    peaks = []
    for minutes in (4, 20):
        with soundfile.SoundFile(tmp_path / "long.wav", "w", RATE, 2) as file:
            for _ in range(minutes // 4):
                file.write(noise)
        words = [str(tmp_path / "long.wav"), str(tmp_path / f"{minutes}"), str(4 * minutes)]
        done = subprocess.run(
            [sys.executable, "-c", code, *words], capture_output=True, text=True, check=True
        )
        peaks.append(float(done.stdout))
    assert peaks[1] < 1.1 * peaks[0]
    assert np.load(tmp_path / "20/x/log_mels.npy", mmap_mode="r").shape == (80, *DEFAULT.shape)


def test_a_cluster_survives_the_death_of_a_worker(new_corpus, home, alone):
    import distributed

    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with (
        distributed.LocalCluster(**options, silence_logs=logging.CRITICAL) as cluster,
        distributed.Client(cluster) as client,
        joblib.parallel_config(backend="dask"),
    ):
        pids = client.run(os.getpid)

        def kill_one():
            wait_until = time.time() + 60
            while not complete_entries(home) and time.time() < wait_until:
                time.sleep(0.01)
            os.kill(next(iter(pids.values())), signal.SIGKILL)

        killer = threading.Thread(target=kill_one)
        killer.start()
        features = prepared(new_corpus, jobs=None)
        killer.join()
        assert set(client.run(os.getpid).values()) != set(pids.values())
    assert_same(features, alone)
