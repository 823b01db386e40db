"""The Croissant metadata of a corpus, read by the library of the format."""

import csv

import mlcroissant
import pytest
import soundfile

from genrecls.corpus import Corpus, write_croissant

NAMES = ("a.wav", "Имя 🎹 & 'quotes', <b>\"c\".flac", "no ending")


pytestmark = pytest.mark.filterwarnings("ignore:ConjunctiveGraph is deprecated")


@pytest.fixture
def corpus(tmp_path, home, rng):
    folder = tmp_path / "my music"
    folder.mkdir()
    with open(folder / "tracks.csv", "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "genre", "licence", "my own/column?"])
        for i, name in enumerate(NAMES):
            sound = rng.normal(0, 0.1, 8000)
            soundfile.write(folder / name, sound, 8000, format="FLAC" if i else "WAV")
            table.writerow([name, f"genre {i}", "CC0-1.0" if i else "", "x"])
    return Corpus.read(folder)


def test_croissant_describes_the_corpus_and_its_table(corpus, tmp_path):
    metadata = mlcroissant.Dataset(write_croissant(corpus, tmp_path)).metadata
    assert not metadata.ctx.issues.errors
    assert metadata.name == "my music"
    assert metadata.license == ["CC0-1.0"]
    table, sounds = metadata.distribution
    assert table.content_url == "croissant_tracks.csv"
    assert sounds.includes == ["**/*", "**/*.flac", "**/*.wav"]
    # Names of types differ between machines, such as audio/wav and audio/x-wav.
    assert {kind.partition("/")[0] for kind in sounds.encoding_formats} == {"audio", "application"}


def test_croissant_reads_the_tracks_from_the_table(corpus, tmp_path):
    records = mlcroissant.Dataset(write_croissant(corpus, tmp_path)).records("tracks")
    for name in ("path", "genre", "sha256"):
        found = [record[f"tracks/{name}"].decode() for record in records]
        assert found == corpus.tracks[name].tolist()


def test_croissant_files_beside_the_music_do_not_change_the_corpus(corpus):
    write_croissant(corpus, corpus.root)
    assert Corpus.read(corpus.root).tracks.equals(corpus.tracks)


def test_croissant_states_no_licence_that_the_corpus_lacks(corpus, tmp_path):
    corpus.tracks["licence"] = ""
    assert not mlcroissant.Dataset(write_croissant(corpus, tmp_path)).metadata.license


def test_croissant_keeps_a_carriage_return_in_a_path(tmp_path, home, rng):
    for genre in "ab":
        (tmp_path / "music" / genre).mkdir(parents=True)
        soundfile.write(tmp_path / "music" / genre / "x\ry.wav", rng.normal(0, 0.1, 8000), 8000)
    page = write_croissant(Corpus.read(tmp_path / "music"), tmp_path)
    records = mlcroissant.Dataset(page).records("tracks")
    assert [record["tracks/path"] for record in records] == [b"a/x\ry.wav", b"b/x\ry.wav"]
