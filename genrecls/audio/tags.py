"""Read the tags of sound files."""

from os import PathLike

from genrecls.audio._container import open_container, raise_audio_error
from genrecls.errors import AudioError


def read_tags(path: str | PathLike) -> dict[str, str]:
    """Read ``artist``, ``album`` and ``title`` from a file, as far as it has them.

    The result is empty if it is not a sound file.
    """
    try:
        with raise_audio_error(path), open_container(path) as container:
            tags = dict(container.metadata)
            # Ogg has its tags in the stream.
            for stream in container.streams.audio[:1]:
                tags = {**stream.metadata, **tags}
    except AudioError:
        return {}
    tags = {name.lower(): _clean(text) for name, text in tags.items()}
    return {name: tags[name] for name in ("artist", "album", "title") if tags.get(name)}


def _clean(text: str) -> str:
    # PyAV 19 turns bytes that are not UTF-8 into surrogates, which cannot be written to a table.
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace").strip()
