"""The audit: measures against known sound, planted confounds, duplicates and damage."""

import csv
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import coloured
from hostile_files import encode
from hypothesis import given, settings
from hypothesis import strategies as st

from genrecls._utils import cache
from genrecls.audio.fingerprint import fingerprint_file, load_fingerprint
from genrecls.audio.quality import measure_track
from genrecls.config import FrontEnd
from genrecls.corpus.audit import Audit, audit
from genrecls.corpus.confounds import (
    CONFOUNDS,
    confound_auc,
    confound_table,
    one_number_classifier,
    visible_confounds,
)
from genrecls.corpus.splits import split_hash
from genrecls.corpus.tracks import Corpus
from genrecls.errors import CorpusError
from genrecls.report.write import write_audit

RATE = 44100
STRANGE = "Имя с пробелами 🎹 & 'quotes', <b>comma.wav"


def write_tracks(folder, tracks, rate=RATE):
    """Write {(genre, artist, name): samples} as WAV files with a table; return the corpus."""
    folder.mkdir()
    with open(folder / "tracks.csv", "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "genre", "artist"])
        for (genre, artist, name), y in tracks.items():
            soundfile.write(folder / name, y, rate)
            table.writerow([name, genre, artist])
    return Corpus.read(folder)


def test_confound_auc_is_chance_for_constants_and_1_for_perfect_values(rng):
    tracks = pd.DataFrame({"genre": list("abc") * 20, "group": [f"g{i}" for i in range(60)]})
    for constant in (7.0, "MP3", None):
        assert confound_auc(pd.Series([constant] * 60), tracks) == 0.5
    model = one_number_classifier().fit(pd.DataFrame({"x": [1.0] * 60}), tracks["genre"])
    assert np.ptp(model.predict_proba(pd.DataFrame({"x": [1.0, 9.0]}))) < 1e-9
    assert (
        confound_auc(tracks["genre"].map({"a": "MP3", "b": "FLAC", "c": "AAC"}), tracks, repeats=1)
        == 1
    )
    # The values of b are between two ranges of a, so that one threshold is not enough.
    two_genres = tracks.assign(genre=np.tile(["a", "b"], 30))
    between = pd.Series(np.where(two_genres["genre"] == "b", 0, rng.choice([-1.0, 1.0], 60)))
    assert confound_auc(between, two_genres, repeats=1) == 1
    assert 0.3 < confound_auc(pd.Series(rng.normal(size=60)), two_genres, repeats=2) < 0.7
    with pytest.raises(CorpusError, match="only one group"):
        confound_auc(between, two_genres.assign(group=two_genres["genre"]))


def test_confound_auc_holds_out_whole_groups(rng):
    """A number that identifies the artist does not predict the genre of other artists."""
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
def test_visible_confounds_follow_from_the_front_end(edges, f_max, reference):
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
    visible = visible_confounds(tracks, FrontEnd(f_max=f_max, reference=reference))
    assert list(visible) == list(CONFOUNDS)
    constant = visible.nunique() == 1
    assert constant[["duration_s", "sample_rate", "channels"]].all()
    assert constant["loudness_lufs"] == (reference == "peak")
    assert constant["bandwidth_hz"] == constant["codec"]
    assert constant["bandwidth_hz"] == (min(edges) >= f_max or len(set(edges)) == 1)
    one_codec = visible_confounds(tracks.assign(codec="MP3"), FrontEnd(f_max=f_max))
    assert one_codec["codec"].nunique() == 1


def test_no_front_end_leaves_more_of_a_confound_than_there_is():
    """The codecs do not depend on the genre; the bandwidth, through which they are seen, does."""
    n = np.arange(24)
    genre = np.where(n % 2, "a", "b")
    tracks = pd.DataFrame({"genre": genre, "group": n, "codec": np.where(n % 4 < 2, "MP3", "FLAC")})
    tracks["bandwidth_hz"] = np.where(n % 2, 5000.0, 7000.0) + n
    tracks["loudness_lufs"] = np.random.default_rng(0).normal(-20, 3, 24)
    tracks = tracks.assign(duration_s=20.0, sample_rate=44100, channels=2)
    table = confound_table(tracks)[0].set_index("confound")
    assert table.loc["bandwidth_hz", "auc left by original"] == 1
    assert table.loc["codec", "auc left by original"] == table.loc["codec", "auc alone"] < 1
    assert table.loc["loudness_lufs", "auc left by default"] == 0.5


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Make a corpus in which genre a is low-passed and short, b full-band and long."""
    rng, tracks = np.random.default_rng(0), {}
    for i in range(6):
        a = coloured(rng, 15.5 + rng.uniform(0, 1), cut_hz=9000 + 100 * i)
        tracks["a", f"a{i}", f"a{i}.wav"] = a
        tracks["b", f"b{i}", f"b{i}.wav"] = coloured(rng, 31.0 + rng.uniform(0, 1))
    return write_tracks(tmp_path_factory.mktemp("planted") / "planted", tracks)


def test_audit_ranks_planted_confounds_first(planted, home):
    result = audit(planted, jobs=1, progress=False)
    table = result.confounds.set_index("confound")
    assert set(table.index[:2]) == {"bandwidth_hz", "duration_s"}
    assert (table["auc alone"].iloc[:2] > 0.95).all()
    assert table["auc alone"].is_monotonic_decreasing
    assert (table.loc[["codec", "sample_rate", "channels"], "auc alone"] == 0.5).all()
    assert table.loc["bandwidth_hz", "under original"] == "visible"
    assert table.loc["bandwidth_hz", "auc left by original"] > 0.95
    assert (table["under default"] == "hidden").all()
    assert (table["auc left by default"] == 0.5).all()
    assert table.loc["duration_s", "under original"] == "hidden"
    assert "bandwidth_hz alone" in " ".join(result.warnings[:2])
    assert result.duplicates.empty
    assert result.problems.empty


def test_audit_finds_no_confound_where_there_is_none(tmp_path, home, rng):
    tracks = {
        (genre, f"{genre}{i}", f"{genre}{i}.wav"): coloured(rng, 2 + rng.uniform(0, 1), rate=16000)
        for genre in "ab"
        for i in range(25)
    }
    result = audit(write_tracks(tmp_path / "even", tracks, 16000), jobs=1, progress=False)
    # By chance, the standard deviation of an AUC over 25 and 25 tracks is 0.08.
    assert result.confounds["auc alone"].between(0.25, 0.75).all()
    assert abs(result.confounds["auc alone"].mean() - 0.5) < 0.12
    assert not any("alone predicts" in warning for warning in result.warnings)


def test_audit_measures_only_missing_and_damaged_entries(planted, home, monkeypatch):
    first = audit(planted, jobs=2, progress=False).to_json()
    hashes = list(planted.tracks["sha256"])
    assert all(len(load_fingerprint(fingerprint_file(sha256))) for sha256 in hashes)
    measured = []

    def measure(path):
        measured.append(path.name)
        return measure_track(path)

    monkeypatch.setattr("genrecls.corpus.audit.measure_track", measure)
    (cache.entry("quality", hashes[0]) / "index.json").write_text("damaged")
    shutil.rmtree(cache.entry("fingerprints", hashes[1]))
    assert audit(planted, jobs=1, progress=False).to_json() == first
    assert measured == planted.tracks["path"][:2].tolist()
    assert cache.load(cache.entry("quality", hashes[0]))


def test_audit_counts_and_warns_per_genre(tmp_path, home, rng):
    short = coloured(rng, 16, rate=8000)
    tracks = {("solo", "one", f"s{i}.wav"): np.roll(short, 999 * i) for i in range(2)}
    tracks |= {("big", "", f"b{i}.wav"): coloured(rng, 155, rate=8000) for i in range(6)}
    result = audit(write_tracks(tmp_path / "odd", tracks, 8000), jobs=1, progress=False)
    genres = result.genres.set_index("genre")
    assert genres.loc["big", ["tracks", "groups", "without artist", "segments"]].tolist() == [
        6,
        6,
        6,
        60,
    ]
    text = "\n".join(result.warnings)
    for part in (
        "cannot be measured: genre 'solo' has only one group",
        "'big' has 60 segments, 'solo' only 2",
        "'solo' has a single artist",
        "the artist is unknown for 6 of 6 tracks in genre 'big'",
    ):
        assert part in text
    assert result.confounds["auc alone"].isna().all()
    assert (
        json.loads(result.to_json(), parse_constant=pytest.fail)["confounds"][0]["auc alone"]
        is None
    )


def test_audit_lists_undecodable_tracks(tmp_path, home):
    for genre in "ab":
        (tmp_path / "bad" / genre).mkdir(parents=True)
        (tmp_path / "bad" / genre / "x.mp3").write_text(f"no sound {genre}")
    result = audit(Corpus.read(tmp_path / "bad"), jobs=1, progress=False)
    assert result.genres["decoded"].tolist() == [0, 0]
    assert result.problems["problem"].tolist() == ["undecodable"] * 2
    assert result.problems["detail"].str.len().min() > 0
    assert result.tracks.empty
    write_audit(result, tmp_path / "out")


def test_audit_names_similar_artists_a_jingle_and_unused_files(tmp_path, home, rng):
    jingle = coloured(rng, 7, rate=8000)
    artists = ("Metalica", "Metallica", "01. METALLICA", "Slayer", "Anthrax")
    for i, artist in enumerate(artists):
        path = tmp_path / "jingle" / ("thrash metal", "Trash Metal")[i % 2] / f"{artist} - {i}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        song = coloured(rng, 16, rate=8000)
        soundfile.write(path, np.r_[song, jingle] if i > 1 else song, 8000)
    (path.parent / "cover.jpg").touch()
    (path.parent / "notes.txt").touch()
    (tmp_path / "jingle" / "top.mp3").touch()
    result = audit(Corpus.read(tmp_path / "jingle"), jobs=1, progress=False)
    for part in (
        "almost the same name: artist 'Metalica' = 'Metallica'?, genre 'thrash metal' = 'Trash",
        "such as a jingle, is in tracks from 3 groups; cut it out: ",
        "not sound: 1 .jpg, 1 .txt",
        "outside the genre folders: 'top.mp3'",
    ):
        assert part in "\n".join(result.warnings)
    assert set(result.duplicates["kind"]) == {"shared"}
    assert result.genres["artists"].tolist() == result.genres["groups"].tolist() == [2, 3]
    assert result.problems["problem"].value_counts()["not sound"] == 2
    write_audit(result, tmp_path / "out")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """Audit a corpus of damaged, odd and duplicate files."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("hostile")
    music = coloured(rng, 15, rate=48000)
    others = [coloured(rng, 15.5, rate=48000) for _ in range(5)]
    for name, y in (
        ("exactly_15s.wav", music),
        ("just_under_15s.wav", others[0][: 15 * 48000 - 1]),
        ("short.wav", others[1][:19000]),
        ("silence.flac", np.zeros(16 * 48000)),
        ("dc_offset.flac", others[1] * 0.5 + 0.1),
        ("clipped.flac", np.clip(others[2] * 8, -0.9, 0.9)),
    ):
        soundfile.write(folder / name, y, 48000)
    not_numbers = others[3].copy()
    not_numbers[1000:1010] = np.nan
    soundfile.write(folder / "nan.wav", not_numbers, 48000, subtype="FLOAT")
    soundfile.write(folder / "mono_8k.wav", coloured(rng, 15.5, rate=8000), 8000)
    for name, y, codec in (
        ("aac.m4a", others[3], "aac"),
        ("opus.webm", others[4], "libopus"),
        ("other_codec.mp3", music, "mp3"),
    ):
        encode(folder / name, y[:, None], 48000, codec)
    (folder / "copy_of_exactly_15s.wav").write_bytes((folder / "exactly_15s.wav").read_bytes())
    (folder / "empty.mp3").touch()
    (folder / "text.mp3").write_text("no sound")
    rows = [
        f"{path.name},{'ab'[i % 3 == 1]},{'train' if i < 5 else 'test'}"
        for i, path in enumerate(sorted(folder.iterdir()))
    ]
    (folder / "tracks.csv").write_text("\n".join(["path,genre,split", *rows]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENRECLS_HOME", str(folder / "home"))
        yield audit(Corpus.read(folder), jobs=1, progress=False)


def test_audit_flags_hostile_files(hostile):
    flags = set(zip(hostile.problems["path"], hostile.problems["problem"], strict=True))
    assert flags >= {
        ("silence.flac", "silent"),
        ("dc_offset.flac", "DC"),
        ("clipped.flac", "clipping"),
        ("short.wav", "too short"),
        ("just_under_15s.wav", "too short"),
        ("nan.wav", "undecodable"),
        ("empty.mp3", "undecodable"),
        ("text.mp3", "undecodable"),
    }
    sound = ("exactly_15s.wav", "mono_8k.wav", "opus.webm", "aac.m4a")
    assert not [flag for flag in flags if flag[0] in sound]
    details = hostile.problems.set_index("path")["detail"]
    assert "NaN" in details["nan.wav"]
    assert set(hostile.tracks["codec"]) >= {"AAC", "OPUS", "MP3", "FLAC"}


def test_audit_finds_duplicates(hostile):
    pairs = {(d.kind, frozenset((d.a, d.b))) for d in hostile.duplicates.itertuples()}
    # The first of equal files, in the order of the table, represents both.
    assert pairs == {
        ("exact", frozenset(("copy_of_exactly_15s.wav", "exactly_15s.wav"))),
        ("near", frozenset(("copy_of_exactly_15s.wav", "other_codec.mp3"))),
    }
    text = "\n".join(hostile.warnings)
    assert "exact duplicates (the same file, in different splits)" in text
    assert "near duplicates (the same sound, in different genres, in different splits)" in text


def test_write_audit_keeps_unusual_names_and_strict_json(tmp_path, home, rng):
    tracks = {
        (g, f"{g}{i}", f"{g}{i}.wav"): coloured(rng, 15.5, rate=8000)
        for g in "ab"
        for i in range(2)
    }
    tracks["a", "<script>alert(1)</script>", STRANGE] = tracks["a", "a0", "a0.wav"]
    result = audit(write_tracks(tmp_path / "strange", tracks, 8000), jobs=1, progress=False)
    page = write_audit(result, tmp_path / "out")
    text = page.read_text("utf-8")
    assert "<script" not in text
    assert "<b>" not in text
    assert "comma.wav" in text
    for name in set(Audit.__dataclass_fields__) - {"corpus", "corpus_hash", "warnings"}:
        assert (tmp_path / "out" / f"audit_{name}.md").stat().st_size
        pd.read_csv(tmp_path / "out" / f"audit_{name}.csv", encoding="utf-8")
    loaded = json.loads(
        (tmp_path / "out" / "audit.json").read_text("utf-8"), parse_constant=pytest.fail
    )
    assert STRANGE in [track["path"] for track in loaded["tracks"]]
    assert loaded["corpus_hash"] == split_hash(Corpus.read(tmp_path / "strange").tracks)
    assert loaded["duplicates"][0]["b"] == STRANGE
    assert loaded["duplicates"][0]["bit_error_rate"] is None
    assert STRANGE in pd.read_csv(tmp_path / "out" / "audit_tracks.csv")["path"].tolist()
    assert "nan" not in (tmp_path / "out" / "audit_duplicates.md").read_text("utf-8")


def test_audit_command_prints_the_main_results_and_writes_the_others(planted, home):
    from typer.testing import CliRunner

    from genrecls.cli import app

    done = CliRunner().invoke(app, ["audit", str(planted.root), "--jobs", "1"])
    assert done.exit_code == 0, done.output
    for part in (
        "under default",
        "without artist",
        "bandwidth_hz alone predicts",
        "croissant.json",
    ):
        assert part in done.output
    assert (home / "reports" / "planted" / "audit.html").is_file()
