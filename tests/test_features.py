import dataclasses
import itertools
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

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
from genrecls._utils.colors import color_table
from genrecls.audio import decode as audio
from genrecls.audio.fingerprint import fingerprint, fingerprint_file, load_fingerprint
from genrecls.errors import CorpusError, LeakError
from genrecls.features import prepare as features_module
from genrecls.features.extraction import track_log_mels

DEFAULT = FrontEnd.preset("default")

# Fingerprints are kept in the project.
pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def corpus(tmp_path):
    return write_corpus(tmp_path / "music", artists=2)


def prepared(path, folder, **options):
    return prepare(Corpus.read(path), DEFAULT, out=folder, jobs=1, progress=False, **options)


def test_segments_are_one_row_a_segment_with_the_columns_of_the_spine(corpus, tmp_path):
    features = prepared(corpus, tmp_path / "f")
    spine = ["track_id", "path", "genre", "artist", "segment", "start_s", "end_s", "split"]
    assert features.segments.columns[:8].tolist() == spine
    assert features.segments.groupby("track_id").size().eq(2).all()
    assert not len(features.failures) and not len(features.notes)


def test_stored_log_mels_are_those_of_the_track(corpus, tmp_path):
    features = prepared(corpus, tmp_path / "f")
    rows = features.segments.sample(5, random_state=0)
    stored = features.log_mels(rows)
    assert stored.shape == (5, *DEFAULT.shape, 1) and stored.dtype == np.float32
    for level, row in zip(stored, rows.itertuples(), strict=True):
        fresh, _ = track_log_mels(corpus / row.path, DEFAULT)
        np.testing.assert_array_equal(level[..., 0], fresh[row.segment - 1])


@pytest.mark.parametrize("preset", ["original", "default"])
def test_half_precision_costs_nothing_that_a_image_shows(preset, rng):
    front_end = FrontEnd.preset(preset)
    levels = mel_spectrogram(rng.normal(0, 0.01, front_end.segment_samples), front_end)
    stored = levels.astype(np.float16)
    assert np.abs(stored - levels).max() <= 0.032
    drawn, full = to_image(stored, front_end), to_image(levels, front_end)
    one_step = np.abs(np.diff(color_table("viridis"), axis=0)).max()
    assert np.abs(drawn - full).max() <= one_step


def test_what_is_stored_is_not_made_again_and_survives_renaming(corpus, tmp_path):
    folder = tmp_path / "f"
    prepared(corpus, folder)
    prints = fingerprint_file("any").parent
    stored = [*folder.glob("*/*.*"), *prints.iterdir()]
    assert len(stored) == 3 * 8  # log-mels, their segments and a fingerprint of every track
    before = {f: f.stat().st_mtime_ns for f in stored}
    shutil.move(corpus / "rap" / "rap 0 - Same Title.wav", corpus / "rap" / "rap 0 - New.wav")
    features = prepared(corpus, folder)
    after = {f: f.stat().st_mtime_ns for f in [*folder.glob("*/*.*"), *prints.iterdir()]}
    assert after == before
    assert "rap/rap 0 - New.wav" in set(features.segments["path"])


def test_the_largest_file_comes_first(corpus, tmp_path, monkeypatch):
    sizes = []

    def store_track(path, *_):
        sizes.append(path.stat().st_size)
        return "not now"

    file = corpus / Corpus.read(corpus).tracks["path"].iloc[-1]
    file.write_bytes(file.read_bytes() + bytes(1000))
    monkeypatch.setattr(features_module, "store_track", store_track)
    with pytest.raises(CorpusError, match="not now"):
        prepared(corpus, tmp_path / "f")
    assert sizes[0] == file.stat().st_size > sizes[1]
    assert sizes == sorted(sizes, reverse=True)


def test_a_changed_file_is_made_again(corpus, tmp_path):
    file = corpus / "rap" / "rap 0 - Same Title.wav"
    first = prepared(corpus, tmp_path / "f").segments
    soundfile.write(file, soundfile.read(file)[0] * 0.5, RATE)
    second = prepared(corpus, tmp_path / "f").segments
    assert set(second["sha256"]) - set(first["sha256"])


def test_lost_fingerprints_are_made_again(corpus, tmp_path):
    first = prepared(corpus, tmp_path / "f")
    shutil.rmtree(tmp_path / "data")
    [tables] = first.folder.glob("corpus-*")
    shutil.rmtree(tables)
    pd.testing.assert_frame_equal(prepared(corpus, tmp_path / "f").segments, first.segments)
    assert all(fingerprint_file(sha256).exists() for sha256 in first.segments["sha256"])


def copy_of(file, copy, *, gain=1.0, start_s=0.0):
    """The same recording in the format of the name of the copy."""
    copy.parent.mkdir(exist_ok=True)
    soundfile.write(copy, gain * soundfile.read(file)[0][round(start_s * RATE) :], RATE)


def test_a_copy_in_another_format_shares_recording_and_group(corpus, tmp_path):
    original = corpus / "rap" / "rap 0 - Same Title.wav"
    copy_of(original, corpus / "rap" / "Pirate - Copy.mp3")
    copy_of(original, corpus / "rap" / "Late - Quiet.ogg", gain=0.3, start_s=7.3)
    features = prepared(corpus, tmp_path / "f")
    tracks = features.segments.drop_duplicates("track_id").set_index("path")
    copies = tracks.loc[["rap/rap 0 - Same Title.wav", "rap/Pirate - Copy.mp3",
                         "rap/Late - Quiet.ogg"]]  # fmt: skip
    assert copies["recording"].nunique() == copies["group"].nunique() == 1
    assert copies["sha256"].nunique() == copies["artist"].nunique() == 3
    others = tracks.drop(copies.index)
    assert len(others) == others["recording"].nunique() == others["group"].nunique() == 7
    assert not set(others["group"]) & set(copies["group"])
    pairs = {frozenset(note.split("'")[1::2]) for note in features.notes["note"]}
    assert pairs == {frozenset([a, b]) for a in copies.index for b in copies.index if a < b}


def test_all_tracks_of_artists_that_share_a_recording_are_one_group(corpus, tmp_path):
    """A compilation by others links them."""
    copy_of(corpus / "rap/rap 0 - Same Title.wav", corpus / "rap" / "rap 1 - Feature.mp3")
    groups = prepared(corpus, tmp_path / "f").segments.groupby("path")["group"].first()
    linked = groups[[f"rap/rap {i} - {t}" for i, t in ((0, "Same Title.wav"), (1, "Feature.mp3"),
                                                       (1, "Same Title.wav"))]]  # fmt: skip
    assert linked.nunique() == 1 and groups.nunique() == 7


@pytest.mark.parametrize("method", ["artist", "track", "segment"])
def test_a_corpus_that_names_a_copy_for_the_test_is_refused_with_the_pair(corpus, tmp_path, method):
    copy_of(corpus / "rap/rap 0 - Same Title.wav", corpus / "rap_test" / "Pirate - Copy.mp3")
    segments = prepared(corpus, tmp_path / "f").segments
    pair = "'rap_test/Pirate - Copy.mp3' and 'rap/rap 0 - Same Title.wav'"
    with pytest.raises(LeakError, match=f"recording .* in test and (train|validation): {pair}"):
        assign_splits(segments, split_by=method)


def test_bad_files_are_listed_with_their_reasons_and_do_not_stop_the_rest(corpus, tmp_path):
    (corpus / "rap" / "empty.mp3").touch()
    (corpus / "rap" / "text.mp3").write_text("no sound")
    (corpus / "rap" / "folder.mp3").mkdir()
    soundfile.write(corpus / "rap" / "short.wav", np.zeros(400), 1000)
    features = prepared(corpus, tmp_path / "f")
    reasons = features.failures.set_index("path")["reason"]
    assert set(reasons.index) == {"rap/empty.mp3", "rap/text.mp3", "rap/short.wav"}
    assert "0.4 s of sound is shorter" in reasons["rap/short.wav"]
    assert len(features.segments) == 16


def test_a_genre_without_usable_tracks_is_an_error(tmp_path):
    root = write_corpus(tmp_path / "music", genres=("classique",), artists=2)
    (root / "rap").mkdir()
    (root / "rap" / "text.mp3").write_text("no sound")
    with pytest.raises(CorpusError, match="'rap'"):
        prepared(root, tmp_path / "f")


def test_the_first_channel_or_the_mix(tmp_path):
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16 * 44100) / 44100)
    soundfile.write(tmp_path / "left.wav", np.stack([tone, 0 * tone], axis=1), 44100)
    soundfile.write(tmp_path / "right.wav", np.stack([0 * tone, tone], axis=1), 44100)
    left, right = (
        track_log_mels(tmp_path / f"{side}.wav", FrontEnd.preset("original"))[0].max()
        for side in ("left", "right")
    )
    assert left > 60 and right == -100
    to_mono = [track_log_mels(tmp_path / f"{s}.wav", DEFAULT)[0] for s in ("left", "right")]
    np.testing.assert_allclose(*to_mono, atol=1e-3)


def test_a_short_file_can_be_padded(tmp_path):
    soundfile.write(tmp_path / "short.wav", np.full(10 * RATE, 0.1), RATE)
    with pytest.raises(AudioError, match="10 s of sound is shorter than one segment of 15 s"):
        track_log_mels(tmp_path / "short.wav", DEFAULT)
    levels, table = track_log_mels(tmp_path / "short.wav", DEFAULT, pad=True)
    assert levels.shape == (1, *DEFAULT.shape) and table["end_s"].tolist() == [10.0]


def test_silent_segments_are_left_out_with_a_note_unless_the_front_end_keeps_them(corpus, tmp_path):
    file = next((corpus / "rap").glob("*.wav"))
    y, rate = soundfile.read(file)
    soundfile.write(file, np.concatenate([y[: 15 * rate], np.zeros(15 * rate)]), rate)
    features = prepared(corpus, tmp_path / "f")
    path = f"rap/{file.name}"
    kept = features.segments[features.segments["path"] == path]
    assert kept["segment"].tolist() == [1]
    [note] = features.notes.loc[features.notes["path"] == path, "note"]
    assert "1 of 2 segments are silent" in note
    seed = dataclasses.replace(DEFAULT, skip_silence=False)
    both = prepare(Corpus.read(corpus), seed, out=tmp_path / "s", jobs=1, progress=False)
    assert (both.segments["path"] == path).sum() == 2


def test_a_silent_track_is_no_track(corpus, tmp_path):
    soundfile.write(corpus / "rap" / "MC - Nothing.wav", np.zeros(16 * RATE), RATE)
    features = prepared(corpus, tmp_path / "f")
    assert features.failures["path"].tolist() == ["rap/MC - Nothing.wav"]
    assert "all of it is silent" in features.failures["reason"].iloc[0]
    log_mels, table = track_log_mels(corpus / "rap" / "MC - Nothing.wav", DEFAULT)
    assert np.isfinite(log_mels).all() and table["silent"].all()


# What is stored, and who stores it


def test_a_file_that_fails_half_way_is_decoded_anew_by_the_next_decoder(corpus, tmp_path):
    """What the first decoder made of it before it failed must not stay."""
    file = corpus / "rap" / "rap 0 - Same Title.wav"
    expected, _ = track_log_mels(file, DEFAULT)
    broken = audio._soundfile

    @contextmanager
    def fails_late(path):
        with broken(path) as (rate, promised, blocks, problems):

            def until_it_breaks():
                yield from itertools.islice(blocks, 8)  # more than a segment
                raise RuntimeError("half way")

            yield rate, promised, until_it_breaks(), problems  # fmt: skip

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audio, "_soundfile", fails_late)
        patch.setattr(audio, "_BLOCK", 1 << 16)
        found, _ = track_log_mels(file, DEFAULT)
        features = prepared(corpus, tmp_path / "f")
    np.testing.assert_allclose(found, expected, atol=0.1)
    [sha256] = features.segments.query("path == 'rap/rap 0 - Same Title.wav'")["sha256"].unique()
    np.testing.assert_allclose(features.track(sha256)[..., 0], expected, atol=0.1)
    y, rate = load_audio(file)
    np.testing.assert_array_equal(load_fingerprint(fingerprint_file(sha256)), fingerprint(y, rate))


def test_in_blocks_it_is_the_same_as_at_once(tmp_path, rng):
    y = rng.normal(0, 0.1, (44100 * 50, 2)).astype(np.float32)
    soundfile.write(tmp_path / "noise.wav", y, 44100, subtype="FLOAT")
    mix, rate = load_audio(tmp_path / "noise.wav", sample_rate=DEFAULT.sample_rate)
    segments, expected = split_segments(mix, sample_rate=rate)
    found, table = track_log_mels(tmp_path / "noise.wav", DEFAULT)
    np.testing.assert_allclose(found, mel_spectrogram(segments, DEFAULT), atol=0.05)
    pd.testing.assert_frame_equal(table.drop(columns="silent"), expected)


@pytest.mark.parametrize("harm", ["truncated", "changed", "emptied", "gone", "no description",
                                  "print", "tables", "header"])  # fmt: skip
def test_what_was_damaged_on_the_disk_is_made_again(corpus, tmp_path, harm):
    first = prepared(corpus, tmp_path / "f")
    before = first.log_mels(first.segments)
    sha256 = first.segments["sha256"].iloc[0]
    file = first.folder / f"{sha256}.npy"
    content = bytearray(file.read_bytes())
    content[-1000] ^= 255
    {
        "truncated": lambda: file.write_bytes(content[:-5000]),
        "changed": lambda: file.write_bytes(content),
        "emptied": lambda: file.write_bytes(b""),
        "gone": file.unlink,
        "print": lambda: (fingerprint_file(sha256).write_bytes(b"PK"), file.touch()),
        "no description": lambda: (file.with_suffix(".json").write_text("[]"), file.touch()),
        "tables": lambda: next(first.folder.glob("corpus-*/segments*")).write_bytes(b"PAR1"),
        "header": lambda: file.write_bytes(content.replace(b"<f2", b">f2")),
    }[harm]()
    again = prepared(corpus, tmp_path / "f")
    np.testing.assert_array_equal(again.log_mels(again.segments), before)
    pd.testing.assert_frame_equal(again.segments, first.segments)


def test_a_prepared_corpus_is_read_and_not_looked_through(corpus, tmp_path, monkeypatch):
    first = prepared(corpus, tmp_path / "f")
    monkeypatch.setattr(features_module, "_prepare", None)  # calling it would fail
    second = prepared(corpus, tmp_path / "f")
    for table in ("segments", "failures", "notes"):
        pd.testing.assert_frame_equal(getattr(first, table), getattr(second, table))


def test_strict_fails_at_a_bad_file_with_its_reason(corpus, tmp_path):
    (corpus / "rap" / "text.mp3").write_text("no sound")
    for _ in range(2):
        with pytest.raises(CorpusError, match=r"1 of 9 tracks cannot be used:\n.*text.mp3"):
            prepared(corpus, tmp_path / "f", strict=True)
        assert len(prepared(corpus, tmp_path / "f").failures) == 1


def prepare_elsewhere(corpus, folder):
    code = (
        "import sys, genrecls; genrecls.prepare(genrecls.Corpus.read(sys.argv[1]), "
        "out=sys.argv[2], jobs=1, progress=False)"
    )
    return subprocess.Popen([sys.executable, "-c", code, str(corpus), str(folder)])


def test_two_processes_may_prepare_the_same_corpus_at_once(corpus, tmp_path):
    both = [prepare_elsewhere(corpus, tmp_path / "f") for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    alone = prepared(corpus, tmp_path / "alone")
    together = prepared(corpus, tmp_path / "f")
    pd.testing.assert_frame_equal(together.segments, alone.segments)
    np.testing.assert_array_equal(
        together.log_mels(together.segments), alone.log_mels(alone.segments)
    )
    assert not list((tmp_path / "f").glob("*/.*"))


def test_a_killed_run_goes_on_where_it_stopped(corpus, tmp_path):
    folder = tmp_path / "f"
    process = prepare_elsewhere(corpus, folder)
    while len(list(folder.glob("*/*.json"))) < 2:
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    done = {file: file.stat().st_mtime_ns for file in folder.glob("*/*.json")}
    features = prepared(corpus, folder)
    assert {file: file.stat().st_mtime_ns for file in done} == done
    pd.testing.assert_frame_equal(features.segments, prepared(corpus, tmp_path / "g").segments)


def test_memory_does_not_grow_with_the_length_of_a_file(tmp_path):
    """What a process that reads 4 minutes takes at most, and one that reads an hour."""
    noise = np.random.default_rng(0).normal(0, 0.1, (4 * 60 * RATE, 2)).astype(np.float32)
    peaks = []
    for minutes in (4, 60):
        with soundfile.SoundFile(tmp_path / "long.wav", "w", RATE, 2) as file:
            for _ in range(minutes // 4):
                file.write(noise)
        code = (
            "import resource, sys; from pathlib import Path; from genrecls import FrontEnd; "
            "from genrecls.store import store_track; out = Path(sys.argv[2]); "
            "assert not store_track(Path(sys.argv[1]), out / 'x', out / 'p.npz', FrontEnd()); "
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
        )
        for file in tmp_path.glob("[xp].*"):
            file.unlink()
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "long.wav"), str(tmp_path)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        peaks.append(float(done.stdout))
    assert peaks[1] < 1.1 * peaks[0]
    assert np.load(tmp_path / "x.npy", mmap_mode="r").shape == (240, *DEFAULT.shape)


def test_a_cluster_prepares_the_same_and_survives_the_death_of_a_worker(corpus, tmp_path):
    distributed = pytest.importorskip("distributed")
    import joblib

    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with (
        distributed.LocalCluster(**options, silence_logs=logging.CRITICAL) as cluster,
        distributed.Client(cluster) as client,
        joblib.parallel_config(backend="dask"),
    ):
        pids = client.run(os.getpid)
        folder = tmp_path / "f"

        def kill_one():
            wait_until = time.time() + 60
            while not list(folder.glob("*/*.json")) and time.time() < wait_until:
                time.sleep(0.01)
            os.kill(next(iter(pids.values())), signal.SIGKILL)

        killer = threading.Thread(target=kill_one)
        killer.start()
        features = prepare(Corpus.read(corpus), DEFAULT, out=folder, progress=False)
        killer.join()
        assert set(client.run(os.getpid).values()) != set(pids.values())
    alone = prepared(corpus, tmp_path / "alone")
    pd.testing.assert_frame_equal(features.segments, alone.segments)
    np.testing.assert_array_equal(
        features.log_mels(features.segments), alone.log_mels(alone.segments)
    )


def test_what_failed_is_tried_again(corpus, tmp_path):
    """What is in its way may go without a trace in the table."""
    file = corpus / "rap" / "rap 0 - Same Title.wav"
    read = Corpus.read(corpus)
    file.rename(tmp_path / "away.wav")
    first = prepare(read, DEFAULT, out=tmp_path / "f", jobs=1, progress=False)
    assert first.failures["path"].tolist() == ["rap/rap 0 - Same Title.wav"]
    (tmp_path / "away.wav").rename(file)
    again = prepare(read, DEFAULT, out=tmp_path / "f", jobs=1, progress=False)
    assert not len(again.failures) and len(again.segments) == len(first.segments) + 2


def test_two_front_ends_share_a_folder_but_no_log_mels(corpus, tmp_path):
    first = prepared(corpus, tmp_path / "f")
    other = dataclasses.replace(DEFAULT, n_mels=64)
    second = prepare(Corpus.read(corpus), other, out=tmp_path / "f", jobs=1, progress=False)
    rows = first.segments.head(2)
    assert first.log_mels(rows).shape[1:3] == DEFAULT.shape
    assert second.log_mels(rows).shape[1:3] == other.shape


def test_old_leftovers_of_killed_processes_go_but_not_what_is_being_written(corpus, tmp_path):
    folder = prepared(corpus, tmp_path / "f").folder
    old, new = folder / ".x.npy.1", folder / ".x.npy.2"
    for file in (old, new):
        file.touch()
    os.utime(old, (1, 1))
    next(folder.glob("*.npy")).touch()
    prepared(corpus, tmp_path / "f")
    assert not old.exists() and new.exists()


def test_a_truncated_file_says_so_where_too_little_is_left(tmp_path, rng):
    whole, rest = tmp_path / "whole.flac", tmp_path / "rest.flac"
    soundfile.write(whole, rng.normal(0, 0.1, 60 * RATE), RATE)
    rest.write_bytes(whole.read_bytes()[: whole.stat().st_size // 10])
    with pytest.raises(AudioError, match=r"header promises 60.0 s.*Export it again"):
        track_log_mels(rest, DEFAULT)
