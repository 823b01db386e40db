"""Tags of sound files."""

from __future__ import annotations

from os import PathLike

from genrecls.audio.decode import open_container
from genrecls.errors import AudioError


def read_tags(path: str | PathLike) -> dict[str, str]:
    """What a file says of itself (ID3, Vorbis comments, MP4 atoms).

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    dict of str to str
        ``artist``, ``album`` and ``title`` where they are given; empty for what is no sound file.
    """
    try:
        with open_container(path) as container:
            tags = dict(container.metadata)
            # Ogg has its tags in the stream.
            for stream in container.streams.audio[:1]:
                tags = {**stream.metadata, **tags}
    except AudioError:
        return {}
    known = {name.lower(): text.strip() for name, text in tags.items()}
    return {name: known[name] for name in ("artist", "album", "title") if known.get(name)}
