"""Play sound in notebooks."""

import io
from os import PathLike

from genrecls.audio.decode import load_audio


def play_audio(path: str | PathLike, *, start_s: float = 0.0, duration_s: float = 15.0):
    """Show a player in a notebook, which will contain the sound as a small MP3.

    Parameters
    ----------
    path : str or path-like
        The sound file.
    start_s, duration_s : float (in seconds)
        Start and length of the part to play.

    Returns
    -------
    IPython.display.Audio
        The player.

    Raises
    ------
    AudioError
        See :func:`load_audio`.
    """
    import soundfile
    from IPython.display import Audio

    y, rate = load_audio(path, sample_rate=22050, start_s=start_s, duration_s=duration_s)
    file = io.BytesIO()
    soundfile.write(file, y, rate, format="MP3", compression_level=0.8)
    return Audio(data=file.getvalue(), embed=True)
