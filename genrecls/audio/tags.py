"""Tags of sound files."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from genrecls.audio.decode import _open_av


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
    import av

    try:
        # FFmpeg writes a traceback of a file of no bytes to stderr.
        if not Path(path).is_file() or not Path(path).stat().st_size:
            return {}
        with _open_av(path) as container:
            tags = dict(container.metadata)
            # Ogg keeps them in the stream.
            for stream in container.streams.audio[:1]:
                tags = {**stream.metadata, **tags}
    except (av.error.FFmpegError, RuntimeError, ValueError):
        return {}
    known = {name.lower(): text.strip() for name, text in tags.items()}
    return {name: known[name] for name in ("artist", "album", "title") if known.get(name)}
