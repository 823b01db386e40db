"""What is wrong with a corpus before any model sees it: damage, duplicates, confounds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import pandas as pd

from genrecls.audio.duplicates import find_near_duplicates
from genrecls.audio.fingerprint import (
    read_fingerprints,
)
from genrecls.config import PRESETS, FrontEnd
from genrecls.corpus.confounds import confound_table
from genrecls.corpus.measurements import measure_corpus
from genrecls.corpus.tracks import Corpus, merge_groups

_MEASURES = (
    "decoder codec sample_rate channels duration_s segments remainder_s peak dc clipped silent "
    "silent_s longest_silence_s loudness_lufs bandwidth_hz".split()
)
_REFUSAL = ["path", "decoder", "reason", "outcome"]

_LONG_SILENCE_S = 10.0
_DC = 0.01  # of full scale: -40 dB
_CLIPPED = 1e-4  # share of the samples; masters of loud music reach a tenth of it
_IMBALANCE = 3.0
_FEW_GROUPS = 5  # with fewer the test of a genre is a single artist
_TELLING = 0.75  # AUC worth a warning; noise reaches 0.7 where a genre has four artists


@dataclass(frozen=True)
class Audit:
    """What an audit found, as tables.

    Attributes
    ----------
    corpus : str
        Name.
    warnings : tuple of str
        The gist in sentences, gravest first.
    confounds : pd.DataFrame
        See :func:`confound_table`.
    genres : pd.DataFrame
        A row a genre: tracks, those that can be decoded, groups, the share of the largest group,
        tracks without artist, segments and minutes.
    duplicates : pd.DataFrame
        A row a pair of tracks with the same content (``exact``) or sound (``near``); see
        :func:`genrecls.audio.fingerprint.find_near_duplicates`.
    problems : pd.DataFrame
        A row for everything about a single track: ``path, problem, detail``.
    decoders : pd.DataFrame
        A row for every decoder that failed at a track: ``path, decoder, reason, outcome``.
    tracks : pd.DataFrame
        A row a track that can be decoded, with its measures (:func:`measure_track`).
    """

    corpus: str
    warnings: tuple[str, ...]
    confounds: pd.DataFrame
    genres: pd.DataFrame
    duplicates: pd.DataFrame
    problems: pd.DataFrame
    decoders: pd.DataFrame
    tracks: pd.DataFrame

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """All tables by name."""
        return {f.name: getattr(self, f.name) for f in fields(self)[2:]}

    def to_json(self) -> str:
        """All of it as strict JSON: a list of rows a table, what is not known as null."""
        rows = {
            name: table.astype(object).where(table.notna(), None).to_dict("records")
            for name, table in self.tables.items()
        }
        what = {"corpus": self.corpus, "warnings": self.warnings, **rows}
        return json.dumps(what, ensure_ascii=False, allow_nan=False, indent=1)


def audit(
    corpus: Corpus,
    *,
    front_ends: Mapping[str, FrontEnd] | None = None,
    jobs: int | None = None,
    progress: bool = True,
) -> Audit:
    """Look for what is wrong with a corpus.

    Parameters
    ----------
    corpus : Corpus
    front_ends : mapping of str to FrontEnd, optional
        Of which to say what confounds they hide; by default all presets.
    jobs : int > 0, optional
        Processes; by default one per core, 8 at most.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Audit
    """
    front_ends = front_ends or {name: FrontEnd.preset(name) for name in PRESETS}
    found = measure_corpus(corpus, jobs=jobs, progress=progress)
    bad = [sha256 for sha256, values in found.items() if "error" in values]
    spine = corpus.tracks[["path", "genre", "artist", "group", "split", "sha256"]]
    usable = spine[~spine["sha256"].isin(bad)]
    values = pd.DataFrame([found[s] for s in usable["sha256"]], usable.index, columns=_MEASURES)
    for name in set(_MEASURES) - {"decoder", "codec"}:
        values[name] = pd.to_numeric(values[name])
    tracks = usable.drop(columns="sha256").join(values)
    genres = _genre_table(spine, tracks)
    duplicates = _duplicate_table(usable)
    problems = pd.DataFrame(_problems(spine, found), columns=["path", "problem", "detail"])
    decoders = pd.DataFrame(_refusals(spine, found), columns=_REFUSAL)
    confounds, reason = confound_table(tracks, front_ends)
    warnings = (
        *_confound_warnings(confounds, reason, list(front_ends)),
        *_genre_warnings(genres),
        *_duplicate_warnings(duplicates),
        *_problem_warnings(problems),
    )
    return Audit(corpus.name, warnings, confounds, genres, duplicates, problems, decoders, tracks)


def _genre_table(all_tracks: pd.DataFrame, usable: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for genre, tracks in all_tracks.groupby("genre"):
        heard = usable[usable["genre"] == genre]
        rows.append(
            {
                "genre": genre,
                "tracks": len(tracks),
                "decoded": len(heard),
                "artists": tracks.loc[tracks["artist"] != "", "artist"].nunique(),
                "without artist": int((tracks["artist"] == "").sum()),
                "groups": tracks["group"].nunique(),
                "largest group": tracks["group"].value_counts(normalize=True).max(),
                "segments": int(heard["segments"].sum()),
                "minutes": heard["duration_s"].sum() / 60,
            }
        )
    return pd.DataFrame(rows)


def _duplicate_table(tracks: pd.DataFrame) -> pd.DataFrame:
    """Pairs with the same content or sound; of several equal files the first stands for all."""
    rows = []
    first = tracks.drop_duplicates("sha256").set_index("sha256")
    for copy in tracks[tracks["sha256"].duplicated()].itertuples():
        rows.append(("exact", first.loc[copy.sha256], copy, np.nan, np.nan, np.nan))
    for pair in find_near_duplicates(read_fingerprints(first.index)).itertuples():
        a, b = (first.iloc[i] for i in (pair.a, pair.b))
        rows.append(("near", a, b, pair.offset_s, pair.overlap_s, pair.bit_error_rate))
    return pd.DataFrame(
        [(kind, *(getattr(t, what) for what in ("path", "genre", "split") for t in (a, b)), *rest)
         for kind, a, b, *rest in rows],
        columns=["kind", "a", "b", "genre of a", "genre of b", "split of a", "split of b",
                 "offset_s", "overlap_s", "bit_error_rate"],
    )  # fmt: skip


def _problems(tracks: pd.DataFrame, found: dict[str, dict]) -> Iterator[tuple[str, str, str]]:
    for track in tracks.itertuples():
        of = found[track.sha256]
        if "error" in of:
            said = "; ".join(f"{who}: {why}" for who, why in of["refused"].items())
            yield track.path, "undecodable", said
            continue
        for note in of["notes"]:
            yield track.path, "damage", note
        for problem, applies, detail in (
            ("too short", not of["segments"], f"{of['duration_s']:.7g} s, less than a segment"),
            ("silent", of["silent"], f"all {of['duration_s']:.0f} s"),
            ("silence", not of["silent"] and of["longest_silence_s"] >= _LONG_SILENCE_S,
             f"{of['longest_silence_s']:.0f} s at a stretch, {of['silent_s']:.0f} s in all"),
            ("DC", of["dc"] > _DC, f"mean of {of['dc']:.3f} of full scale"),
            ("clipping", not of["silent"] and of["clipped"] > _CLIPPED,
             f"{of['clipped']:.2%} of the samples"),
        ):  # fmt: skip
            if applies:
                yield track.path, problem, detail


def _refusals(tracks: pd.DataFrame, found: dict[str, dict]) -> Iterator[tuple[str, ...]]:
    for track in tracks.itertuples():
        of = found[track.sha256]
        outcome = f"decoded by {of['decoder']}" if "decoder" in of else "left out"
        for decoder, reason in of["refused"].items():
            yield track.path, decoder, reason, outcome


def _confound_warnings(table: pd.DataFrame, reason: str, front_ends: list[str]) -> Iterator[str]:
    if reason:
        yield f"what tells the genres apart cannot be measured: {reason}"
    for row in table[table["auc alone"] >= _TELLING].to_dict("records"):
        seen = [name for name in front_ends if row[f"under {name}"] == "visible"]
        yield (
            f"{row['confound']} alone tells the genres apart (AUC {row['auc alone']:.2f}); "
            + (f"visible under {', '.join(seen)}" if seen else "no front end shows it")
        )


def _genre_warnings(table: pd.DataFrame) -> Iterator[str]:
    if len(table) < 2:
        yield "there is only one genre"
    most, least = (table.loc[at] for at in (table["segments"].idxmax(), table["segments"].idxmin()))
    if most["segments"] > _IMBALANCE * least["segments"]:
        yield (
            f"{most['genre']!r} has {most['segments']} segments, {least['genre']!r} only "
            f"{least['segments']}"
        )
    for row in table.to_dict("records"):
        genre, groups = f"genre {row['genre']!r}", row["groups"]
        if groups == 1:
            yield f"{genre} is a single artist: genre and artist cannot be told apart"
        elif groups < _FEW_GROUPS:
            yield f"{genre} has {groups} artists: each split rests on one or two of them"
        if groups > 1 and row["largest group"] > 0.5:
            yield f"more than half of {genre} is by one artist ({row['largest group']:.0%})"
        if row["without artist"] > row["tracks"] / 2:
            yield (
                f"{row['without artist']} of {row['tracks']} tracks of {genre} name no artist: "
                f"some may be by the same one, and stand on two sides of a split"
            )


def _duplicate_warnings(table: pd.DataFrame) -> Iterator[str]:
    """A sentence for all tracks that hang together, not for every pair of them."""
    for kind, pairs in table.groupby("kind"):
        ends, pair = pd.concat([pairs["a"], pairs["b"]]), np.tile(np.arange(len(pairs)), 2)
        for _, alike in pairs.groupby(merge_groups(ends, pair)[: len(pairs)]):
            paths = sorted({*alike["a"], *alike["b"]})
            apart = [
                f"{what}s"
                for what in ("genre", "split")
                if (alike[f"{what} of a"] != alike[f"{what} of b"]).any()
            ]
            length = f" for {alike['overlap_s'].max():.0f} s" if len(paths) == 2 else ""
            yield (
                f"{kind} duplicates: {_listed(paths)} "
                + ("are the same file" if kind == "exact" else f"sound the same{length}")
                + (f", in different {' and '.join(apart)}" if apart else "")
            )


def _problem_warnings(table: pd.DataFrame) -> Iterator[str]:
    for problem, rows in table.groupby("problem", sort=False):
        yield f"{problem}: {_listed(rows['path'].unique())}"


def _listed(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    return ", ".join(map(repr, paths[:3])) + more
