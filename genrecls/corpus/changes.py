"""Changes of a corpus since models were trained on it."""

from genrecls._utils.names import find_root
from genrecls.corpus.folders import UNREADABLE
from genrecls.corpus.splits import split_hash
from genrecls.corpus.tracks import Corpus
from genrecls.errors import CorpusError
from genrecls.evaluation.runs import Run


def describe_changes(run: Run) -> str:
    """Describe how a corpus differs from that of a run in a sentence, or return ``''``."""
    name = run.card["corpus"]
    if (root := find_root(name)) is None:
        return ""
    try:
        corpus = Corpus.read(root)
    except (CorpusError, OSError) as error:
        return f"The corpus {name!r} cannot be read any more: {error}"
    if split_hash(corpus.tracks) == run.card["corpus_hash"]:
        return ""
    columns = ["genre", "sha256"]
    before = run.segments.drop_duplicates("path").set_index("path")[columns]
    after = corpus.tracks.set_index("path")[columns]
    # Unreadable files are not among the tracks of a corpus.
    left_out = {row["path"]: row["reason"] for row in run.card["left_out"]}
    listed = [path for path, reason in left_out.items() if f" {UNREADABLE}: " not in reason]
    known = before.index.union(listed)
    both = before.index.intersection(after.index)
    differs = before.loc[both] != after.loc[both]
    counts = {
        "added": len(after.index.difference(known)),
        "removed": len(known.difference(after.index)),
        "of another genre": int(differs["genre"].sum()),
        "with another content": int(differs["sha256"].sum()),
    }
    changes = ", ".join(f"{n} {what}" for what, n in counts.items() if n)
    return (
        f"The corpus {name!r} has changed since its models were trained (tracks: "
        f"{changes or 'other artists, albums, titles or splits'}). Train them again."
    )
