"""The audit: measures against known sound, planted confounds, duplicates and damage."""

import csv
import dataclasses
import json
import os

import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import HOSTILE
from hypothesis import given, settings
from hypothesis import strategies as st

from genrecls.config import FrontEnd
from genrecls.corpus.audit import Audit, audit
from genrecls.corpus.confounds import CONFOUNDS, confound_auc, one_number_classifier, visible
from genrecls.corpus.measurements import fingerprints, measure_corpus
from genrecls.corpus.tracks import Corpus
from genrecls.errors import CorpusError
from genrecls.report.audit_pages import write_audit

RATE = 44100
STRANGE = "Имя с пробелами 🎹 & 'quotes', <b>comma.wav"


def coloured(rng, seconds, *, slope_db=-4.5, cut_hz=None, rate=RATE):
    """Noise that falls by so many dB an octave, cut off over 500 Hz, above a floor of -100 dB."""
    n = round(seconds * 10) * rate // 10  # not a prime number: those take seconds
    f = np.fft.rfftfreq(n, 1 / rate)
    spectrum = np.fft.rfft(rng.standard_normal(n)) * (np.maximum(f, 50) / 50) ** (slope_db / 6.02)
    if cut_hz:
        spectrum *= 10 ** (-80 / 20 * np.clip((f - cut_hz) / 500, 0, 1))
    y = np.fft.irfft(spectrum, n)
    return 0.3 * y / np.abs(y).max() + 1e-5 * rng.standard_normal(n)


def write_tracks(folder, tracks, rate=RATE):
    """``tracks.csv`` and WAV files of {(genre, artist, name): samples}; returns the corpus."""
    folder.mkdir()
    with open(folder / "tracks.csv", "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "genre", "artist"])
        for (genre, artist, name), y in tracks.items():
            soundfile.write(folder / name, y, rate)
            table.writerow([name, genre, artist])
    return Corpus.read(folder)


def test_a_constant_number_is_worth_nothing_and_a_perfect_one_everything(rng):
    tracks = pd.DataFrame({"genre": list("abc") * 20, "group": [f"g{i}" for i in range(60)]})
    for constant in (7.0, "MP3", None):
        assert confound_auc(pd.Series([constant] * 60), tracks) == 0.5
    model = one_number_classifier().fit(pd.DataFrame({"x": [1.0] * 60}), tracks["genre"])
    assert np.ptp(model.predict_proba(pd.DataFrame({"x": [1.0, 9.0]}))) < 1e-9
    assert (
        confound_auc(tracks["genre"].map({"a": "MP3", "b": "FLAC", "c": "AAC"}), tracks, repeats=1)
        == 1
    )
    # a range, not a limit: b stands between the halves of a
    two = tracks.assign(genre=np.tile(["a", "b"], 30))
    between = pd.Series(np.where(two["genre"] == "b", 0, rng.choice([-1.0, 1.0], 60)))
    assert confound_auc(between, two, repeats=1) == 1
    assert 0.3 < confound_auc(pd.Series(rng.normal(size=60)), two, repeats=2) < 0.7
    with pytest.raises(CorpusError, match="one artist"):
        confound_auc(between, two.assign(group=two["genre"]))


def test_folds_keep_artists_together(rng):
    """A number that names the artist says nothing of the genre of other artists."""
    artist = np.repeat(np.arange(24), 5)
    tracks = pd.DataFrame({"genre": np.where(artist % 2, "a", "b"), "group": artist.astype(str)})
    number = pd.Series(rng.permutation(24)[artist].astype(float))
    assert confound_auc(number, tracks, repeats=2) < 0.8


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.floats(2000, 48000), min_size=2, max_size=9),
    st.floats(1000, 11000),
    st.sampled_from(["unit", "peak"]),
)
def test_what_a_front_end_leaves(edges, f_max, reference):
    n = len(edges)
    tracks = pd.DataFrame(
        {
            "bandwidth_hz": edges,
            "duration_s": np.arange(n, dtype=float),
            "loudness_lufs": -np.arange(n, dtype=float),
            "sample_rate": 44100 + np.arange(n),
            "channels": 1 + np.arange(n) % 2,
            "codec": ["MP3", *["FLAC"] * (n - 1)],
        }
    )
    left = visible(tracks, FrontEnd(f_max=f_max, reference=reference))
    assert list(left) == list(CONFOUNDS)
    constant = left.nunique() == 1
    assert constant[["duration_s", "sample_rate", "channels"]].all()
    assert constant["loudness_lufs"] == (reference == "peak")
    assert constant["bandwidth_hz"] == constant["codec"]
    assert constant["bandwidth_hz"] == (min(edges) >= f_max or len(set(edges)) == 1)
    one_codec = visible(tracks.assign(codec="MP3"), FrontEnd(f_max=f_max))
    assert one_codec["codec"].nunique() == 1


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Genre a is low-passed and short, b full-band and long; but for that they are the same."""
    rng, tracks = np.random.default_rng(0), {}
    for i in range(6):
        a = coloured(rng, 15.5 + rng.uniform(0, 1), cut_hz=9000 + 100 * i)
        tracks["a", f"a{i}", f"a{i}.wav"] = a
        tracks["b", f"b{i}", f"b{i}.wav"] = coloured(rng, 31.0 + rng.uniform(0, 1))
    return write_tracks(tmp_path_factory.mktemp("planted") / "planted", tracks)


def test_planted_confounds_come_out_on_top(planted, home):
    front_ends = {
        "original": FrontEnd.preset("original"),
        "neutral": dataclasses.replace(FrontEnd.preset("default"), f_max=8000.0),
    }
    found = audit(planted, front_ends=front_ends, jobs=1, progress=False)
    table = found.confounds.set_index("confound")
    assert set(table.index[:2]) == {"bandwidth_hz", "duration_s"}
    assert (table["auc alone"].iloc[:2] > 0.95).all()
    assert table["auc alone"].is_monotonic_decreasing
    assert (table.loc[["codec", "sample_rate", "channels"], "auc alone"] == 0.5).all()
    assert table.loc["bandwidth_hz", "under seed"] == "visible"
    assert table.loc["bandwidth_hz", "auc left by seed"] > 0.95
    assert (table["under neutral"] == "hidden").all()
    assert (table["auc left by neutral"] == 0.5).all()
    assert table.loc["duration_s", "under seed"] == "hidden"
    assert "bandwidth_hz alone" in " ".join(found.warnings[:2])
    assert found.duplicates.empty and found.problems.empty


def test_a_corpus_without_confounds_has_none(tmp_path, home, rng):
    tracks = {
        (genre, f"{genre}{i}", f"{genre}{i}.wav"): coloured(rng, 2 + rng.uniform(0, 1), rate=16000)
        for genre in "ab"
        for i in range(15)
    }
    found = audit(write_tracks(tmp_path / "even", tracks, 16000), jobs=1, progress=False)
    assert found.confounds["auc alone"].between(0.25, 0.75).all()
    assert abs(found.confounds["auc alone"].mean() - 0.5) < 0.12
    assert not any("alone tells" in warning for warning in found.warnings)


def test_a_second_audit_decodes_nothing(planted, home, monkeypatch):
    first = measure_corpus(planted, jobs=2, progress=False)
    monkeypatch.setattr("genrecls.corpus.measurements.measure_track", None)
    assert measure_corpus(planted, jobs=1, progress=False) == first
    assert set(fingerprints(planted, progress=False)) == set(planted.tracks["sha256"])


def test_counts_and_warnings_of_genres(tmp_path, home, rng):
    short, long = (coloured(rng, seconds, rate=8000) for seconds in (16, 155))
    tracks = {("solo", "one", f"s{i}.wav"): np.roll(short, 999 * i) for i in range(2)}
    tracks |= {("big", "", f"b{i}.wav"): long + 0.01 * rng.normal(size=len(long)) for i in range(6)}
    found = audit(write_tracks(tmp_path / "odd", tracks, 8000), jobs=1, progress=False)
    genres = found.genres.set_index("genre")
    assert genres.loc["big", ["tracks", "groups", "without artist", "segments"]].tolist() == [
        6, 6, 6, 60,
    ]  # fmt: skip
    said = "\n".join(found.warnings)
    for part in (
        "cannot be measured: genre 'solo' has one artist",
        "'big' has 60 segments, 'solo' only 2",
        "'solo' is a single artist",
        "6 of 6 tracks of genre 'big' name no artist",
    ):
        assert part in said
    assert found.confounds["auc alone"].isna().all()
    assert (
        json.loads(found.to_json(), parse_constant=pytest.fail)["confounds"][0]["auc alone"] is None
    )


def test_a_corpus_that_nothing_can_be_decoded_of(tmp_path, home):
    for genre in "ab":
        (tmp_path / "bad" / genre).mkdir(parents=True)
        (tmp_path / "bad" / genre / "x.mp3").write_text(f"no sound {genre}")
    found = audit(Corpus.read(tmp_path / "bad"), jobs=1, progress=False)
    assert found.genres["decoded"].tolist() == [0, 0]
    assert set(found.decoders["decoder"]) == {"soundfile", "PyAV"}
    assert (found.decoders["outcome"] == "left out").all()
    write_audit(found, tmp_path / "out")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    if not HOSTILE.is_dir():
        pytest.skip("the hostile files are not here")
    folder = tmp_path_factory.mktemp("hostile")
    files = sorted(f for f in HOSTILE.iterdir() if f.is_file() and f.suffix != ".md")
    with open(folder / "tracks.csv", "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "genre", "split"])
        for i, path in enumerate(files):
            os.symlink(path, folder / path.name)
            table.writerow([path.name, "ab"[i % 2], "test" if i % 3 else "train"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENRECLS_HOME", str(folder / "home"))
        yield audit(Corpus.read(folder), jobs=1, progress=False)


def test_hostile_files_are_flagged(hostile):
    flags = set(zip(hostile.problems["path"], hostile.problems["problem"], strict=True))
    assert flags >= {
        ("silence.flac", "silent"),
        ("dc_offset.flac", "DC"),
        ("clipped.flac", "clipping"),
        ("short_0.4s.wav", "too short"),
        ("just_under_15s.wav", "too short"),
        ("nan_inf_float.wav", "undecodable"),
        ("empty.mp3", "undecodable"),
        ("text.mp3", "undecodable"),
    }
    assert not [f for f in flags if f[0] in ("exactly_15s.wav", "mono_8k.wav", "opus.webm")]
    decoders = hostile.decoders.set_index(["path", "decoder"])
    assert decoders.loc[("aac.m4a", "soundfile"), "outcome"] == "decoded by PyAV"
    assert "NaN" in decoders.loc[("nan_inf_float.wav", "PyAV"), "reason"]
    assert set(hostile.tracks["codec"]) >= {"AAC", "OPUS", "MP3", "FLAC", "WAV PCM_16"}


def test_hostile_duplicates_are_found(hostile):
    pairs = {(d.kind, frozenset((d.a, d.b))) for d in hostile.duplicates.itertuples()}
    assert ("exact", frozenset(("copy_of_exactly_15s.wav", "exactly_15s.wav"))) in pairs
    # Of equal files the first stands for both.
    assert (
        "near",
        frozenset(("copy_of_exactly_15s.wav", "same_music_other_codec.mp3")),
    ) in pairs
    strangers = {"silence.flac", "dc_offset.flac", "clipped.flac", "short_0.4s.wav"}
    assert not strangers & {*hostile.duplicates["a"], *hostile.duplicates["b"]}
    assert any("sound the same, in different genres and splits" in w for w in hostile.warnings)


def test_what_is_written_is_strict_and_names_survive(tmp_path, home, rng):
    tracks = {(g, f"{g}{i}", f"{g}{i}.wav"): coloured(rng, 15.5, rate=8000)
              for g in "ab" for i in range(2)}  # fmt: skip
    tracks["a", "<script>alert(1)</script>", STRANGE] = tracks["a", "a0", "a0.wav"]
    found = audit(write_tracks(tmp_path / "strange", tracks, 8000), jobs=1, progress=False)
    page = write_audit(found, tmp_path / "out")
    text = page.read_text("utf-8")
    assert "<script" not in text and "<b>" not in text and "comma.wav" in text
    for name in set(Audit.__dataclass_fields__) - {"corpus", "warnings"}:
        assert (tmp_path / "out" / f"audit_{name}.md").stat().st_size
        pd.read_csv(tmp_path / "out" / f"audit_{name}.csv", encoding="utf-8")
    loaded = json.loads((tmp_path / "out" / "audit.json").read_text("utf-8"),
                        parse_constant=pytest.fail)  # fmt: skip
    assert STRANGE in [track["path"] for track in loaded["tracks"]]
    assert loaded["duplicates"][0]["b"] == STRANGE
    assert loaded["duplicates"][0]["bit_error_rate"] is None
    assert STRANGE in pd.read_csv(tmp_path / "out" / "audit_tracks.csv")["path"].tolist()
    assert "nan" not in (tmp_path / "out" / "audit_duplicates.md").read_text("utf-8")


def test_the_command_prints_the_gist_and_writes_the_rest(planted, home):
    from typer.testing import CliRunner

    from genrecls.cli import app

    done = CliRunner().invoke(app, ["audit", str(planted.root), "--jobs", "1"])
    assert done.exit_code == 0, done.output
    for part in ("auc left by default", "without artist", "bandwidth_hz alone tells", "Written:"):
        assert part in done.output
    assert (home / "reports" / "planted" / "audit.html").is_file()
