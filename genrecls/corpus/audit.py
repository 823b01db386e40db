"""Audit a corpus for damage, duplicates and confounds before training."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pandas as pd

from genrecls._utils import cache
from genrecls._utils.io import check_unchanged
from genrecls._utils.parallel import map_parallel
from genrecls.audio.fingerprint import fingerprint_file, save_fingerprint
from genrecls.audio.quality import measure_track
from genrecls.config import PRESETS
from genrecls.corpus.confounds import HIGH_AUC, confound_table
from genrecls.corpus.folders import NOT_SOUND, count_endings, list_some
from genrecls.corpus.groups import find_recordings, merge_groups
from genrecls.corpus.names import artist_key, find_similar, genre_key
from genrecls.corpus.splits import split_hash
from genrecls.corpus.tracks import Corpus
from genrecls.errors import AudioError

_MEASURES = (
    "codec sample_rate channels duration_s segments remainder_s peak dc clipped silent silent_s "
    "longest_silence_s loudness_lufs bandwidth_hz"
).split()
_PAIR = (
    "kind,a,b,genre of a,genre of b,split of a,split of b,"
    "offset_s,overlap_s,bit_error_rate,share,shared_by"
).split(",")
_SIMILAR = "almost the same name"
_LONG_SILENCE_S = 10.0
_DC = 0.01  # of full scale: -40 dB
_CLIPPED = 1e-4  # share of the samples; masters of loud music reach a tenth of it
_IMBALANCE = 3.0
_FEW_GROUPS = 5  # with fewer, the test of a genre consists of a single group


@dataclass(frozen=True)
class Audit:
    """The results of an audit as tables.

    Attributes
    ----------
    corpus : str
        Name of the corpus.
    corpus_hash : str
        Hash of its tracks, as in the cards of the runs that were trained on them.
    warnings : tuple of str
        The main results in sentences, the most serious first.
    confounds : pd.DataFrame
        How well each confound predicts the genre alone, and what each preset leaves of it.
    genres : pd.DataFrame
        One row per genre: numbers of tracks, artists, groups and segments.
    duplicates : pd.DataFrame
        One row per pair of tracks with the same content (``exact``), the same sound (``near``) or
        a short sound that is in tracks from several groups (``shared``).
    problems : pd.DataFrame
        One row per problem of a single track, and per file that is not used.
    tracks : pd.DataFrame
        One row per track that can be decoded, with measures of its sound.
    """

    corpus: str
    corpus_hash: str
    warnings: tuple[str, ...]
    confounds: pd.DataFrame
    genres: pd.DataFrame
    duplicates: pd.DataFrame
    problems: pd.DataFrame
    tracks: pd.DataFrame

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """All tables by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)[3:]}

    def to_json(self) -> str:
        """Return strict JSON: each table as a list of rows, unknown values as null."""
        names = ("corpus", "corpus_hash", "warnings")
        values = {name: getattr(self, name) for name in names}
        for name, table in self.tables.items():
            values[name] = table.astype(object).where(table.notna(), None).to_dict("records")
        return json.dumps(values, ensure_ascii=False, allow_nan=False, indent=1)


def audit(
    corpus: Corpus | str | os.PathLike,
    *,
    jobs: int | None = None,
    progress: bool = True,
) -> Audit:
    """Look for damage, duplicates and confounds in a corpus.

    Parameters
    ----------
    corpus : Corpus or path-like
        A corpus, or the path of one; see :meth:`genrecls.Corpus.read`.
    jobs : int > 0, optional
        Number of processes; by default one per core, at most 8.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Audit

    Examples
    --------
    >>> import genrecls
    >>> found = genrecls.audit("music", progress=False)
    >>> found.genres["tracks"].tolist()
    [5, 5, 5]
    """
    corpus = Corpus.read(corpus)
    measures = _measure_files(corpus, jobs, progress)
    columns = ["path", "genre", "artist", "group", "split", "sha256"]
    is_decoded = ["undecodable" not in measures[sha256] for sha256 in corpus.tracks["sha256"]]
    distinct, pairs = find_recordings(corpus.tracks[is_decoded].drop_duplicates("sha256"))
    recordings = dict(zip(distinct["sha256"], distinct["recording"], strict=True))
    recording = corpus.tracks["sha256"].map(lambda sha256: recordings.get(sha256, sha256))
    listed = corpus.tracks.assign(group=merge_groups(corpus.tracks["group"], recording))[columns]
    decoded = listed[is_decoded]
    rows = decoded["sha256"].map(measures).tolist()
    values = pd.DataFrame(rows, decoded.index, columns=_MEASURES).astype({"loudness_lufs": float})
    tracks = decoded.drop(columns="sha256").join(values)
    genres = _genre_table(listed, tracks)
    duplicates = _duplicate_table(decoded, pairs)
    rows = [*_problems(listed, measures), *_similar_names(listed), *_unused(corpus.left_out)]
    problems = pd.DataFrame(rows, columns=["path", "problem", "detail"])
    confounds, reason = confound_table(tracks, progress=progress)
    warnings = [
        *_confound_warnings(confounds, reason),
        *_genre_warnings(genres),
        *_duplicate_warnings(duplicates),
    ]
    for problem, rows in problems.groupby("problem", sort=False):
        names = rows["detail"] if problem in (_SIMILAR, NOT_SOUND) else rows["path"].map(repr)
        warnings.append(f"{problem}: {list_some(names.drop_duplicates())}")
    return Audit(
        corpus.name,
        split_hash(corpus.tracks),
        tuple(warnings),
        confounds,
        genres,
        duplicates,
        problems,
        tracks,
    )


def _measure_files(corpus: Corpus, jobs: int | None, progress: bool) -> dict[str, dict]:
    """Measure the files that are not in the cache; return all measures by content hash."""
    files = zip(corpus.tracks["sha256"], map(corpus.file, corpus.tracks["path"]), strict=True)
    measures, calls = {}, {}
    for sha256, file in dict(files).items():
        quality, fingerprint = cache.entry("quality", sha256), fingerprint_file(sha256)
        measures[sha256] = cache.load(quality)
        if measures[sha256] is None or cache.load(fingerprint) is None:
            # Workers may outlive a change of the project folder, so that they get the paths.
            calls[sha256] = (file, sha256, quality, fingerprint)
    todo = list(calls.values())
    fresh = map_parallel(_measure_file, todo, jobs=jobs, desc="audit", progress=progress)
    return measures | dict(zip(calls, fresh, strict=True))


def _measure_file(path: Path, sha256: str, quality: Path, fingerprint: Path) -> dict:
    try:
        measures = measure_track(path)
        check_unchanged(path, sha256)
    except AudioError as error:
        return {"undecodable": "; ".join(f"{k}: {v}" for k, v in error.reasons.items())}
    save_fingerprint(fingerprint, measures.pop("fingerprint"))
    with cache.new(quality) as (_, meta):
        meta.update(measures)
    return measures


def _genre_table(listed: pd.DataFrame, tracks: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for genre, all_tracks in listed.groupby("genre"):
        decoded = tracks[tracks["genre"] == genre]
        artists = all_tracks["artist"].map(artist_key).replace("", None)
        rows.append(
            {
                "genre": genre,
                "tracks": len(all_tracks),
                "decoded": len(decoded),
                "artists": artists.nunique(),
                "without artist": int(artists.isna().sum()),
                "groups": all_tracks["group"].nunique(),
                "largest group": all_tracks["group"].value_counts(normalize=True).max(),
                "segments": int(decoded["segments"].sum()),
                "minutes": decoded["duration_s"].sum() / 60,
            }
        )
    return pd.DataFrame(rows)


def _duplicate_table(tracks: pd.DataFrame, near: pd.DataFrame) -> pd.DataFrame:
    """Tabulate pairs with equal content or sound; the first of equal files represents them."""
    first = tracks.drop_duplicates("sha256").set_index("sha256")
    copies = tracks[tracks["sha256"].duplicated()]
    pairs = [("exact", first.loc[b["sha256"]], b, [np.nan] * 5) for _, b in copies.iterrows()]
    for a, b, *match in near[["a", "b", *_PAIR[-5:]]].itertuples(index=False):
        kind = "shared" if match[-1] else "near"
        pairs.append((kind, first.iloc[int(a)], first.iloc[int(b)], match))
    columns = ("path", "genre", "split")
    rows = [(kind, *(t[c] for c in columns for t in (a, b)), *match) for kind, a, b, match in pairs]
    return pd.DataFrame(rows, columns=_PAIR)


def _problems(tracks: pd.DataFrame, measures: dict[str, dict]) -> Iterator[tuple[str, str, str]]:
    for path, sha256 in zip(tracks["path"], tracks["sha256"], strict=True):
        m = measures[sha256]
        if "undecodable" in m:
            yield path, "undecodable", m["undecodable"]
            continue
        for note in m["notes"]:
            yield path, "damage", note
        if not m["segments"]:
            yield path, "too short", f"{m['duration_s']:.7g} s, less than a segment"
        if m["silent"]:
            yield path, "silent", f"all {m['duration_s']:.0f} s"
        elif (longest := m["longest_silence_s"]) >= _LONG_SILENCE_S:
            yield path, "silence", f"longest {longest:.0f} s, {m['silent_s']:.0f} s in total"
        if m["dc"] > _DC:
            yield path, "DC", f"mean of {m['dc']:.3f} of full scale"
        if m["clipped"] > _CLIPPED and not m["silent"]:
            yield path, "clipping", f"{m['clipped']:.2%} of the samples"


def _similar_names(tracks: pd.DataFrame) -> Iterator[tuple[str, str, str]]:
    """Yield artists and genres whose names are almost equal, with a track of the second."""
    for column, key in (("artist", artist_key), ("genre", genre_key)):
        first = tracks.groupby(tracks[column].map(key))[[column, "path"]].first()
        for a, b in find_similar(key for key in first.index if key):
            detail = f"{column} {first[column][a]!r} = {first[column][b]!r}?"
            yield first["path"][b], _SIMILAR, detail


def _unused(left_out: pd.DataFrame) -> Iterator[tuple[str, str, str]]:
    """Yield the files that are not used, those without sound as a number per ending."""
    is_sound = left_out["problem"] != NOT_SOUND
    for ending, n in count_endings(left_out[~is_sound]).items():
        yield "", NOT_SOUND, f"{n} {ending}"
    yield from left_out[is_sound].itertuples(index=False, name=None)


def _confound_warnings(table: pd.DataFrame, reason: str) -> Iterator[str]:
    if reason:
        yield f"confounds cannot be measured: {reason}"
    for row in table[table["auc alone"] >= HIGH_AUC].to_dict("records"):
        visible = ", ".join(name for name in PRESETS if row[f"under {name}"] == "visible")
        effect = f"visible under {visible}" if visible else "no front end shows it"
        yield f"{row['confound']} alone predicts the genre (AUC {row['auc alone']:.2f}); {effect}"


def _genre_warnings(table: pd.DataFrame) -> Iterator[str]:
    segments = dict(zip(table["genre"], table["segments"], strict=True))
    most, least = max(segments, key=segments.__getitem__), min(segments, key=segments.__getitem__)
    if segments[most] > _IMBALANCE * segments[least]:
        yield f"{most!r} has {segments[most]} segments, {least!r} only {segments[least]}"
    for row in table.to_dict("records"):
        genre, groups, unknown = f"genre {row['genre']!r}", row["groups"], row["without artist"]
        group = "artist" if groups == row["artists"] and not unknown else "group"
        if groups == 1:
            yield f"{genre} has a single {group}: a model cannot tell the genre from the {group}"
        elif groups < _FEW_GROUPS:
            yield f"{genre} has only {groups} {group}s: each split has one or two of them"
        if groups > 1 and row["largest group"] > 0.5:
            yield f"one {group} has more than half of {genre} ({row['largest group']:.0%})"
        if unknown > row["tracks"] / 2:
            where = f"{unknown} of {row['tracks']} tracks in {genre}"
            yield f"the artist is unknown for {where}: an artist may be on both sides of a split"


def _duplicate_warnings(table: pd.DataFrame) -> Iterator[str]:
    conflict = pd.Series("", table.index)
    for column in ("genre", "split"):
        differs = table[f"{column} of a"] != table[f"{column} of b"]
        conflict = conflict + differs.map({True: f", in different {column}s", False: ""})
    conflict = conflict.mask(table["kind"] == "shared", "")
    for (kind, where), pairs in table.groupby(["kind", conflict]):
        names = list_some(pairs["a"].map(repr) + " = " + pairs["b"].map(repr))
        if kind == "shared":
            yield (
                f"a sound of {pairs['overlap_s'].median():.0f} s, such as a jingle, is in tracks "
                f"from {pairs['shared_by'].max():.0f} groups; cut it out: {names}"
            )
        else:
            reason = "the same file" if kind == "exact" else "the same sound"
            yield f"{kind} duplicates ({reason}{where}): {names}"
