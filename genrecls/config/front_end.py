"""The front end: how a track becomes log-mel images."""

import math
from dataclasses import dataclass
from typing import Any, Literal, Self

from genrecls.config.base import Config, hash_json, look_up


@dataclass(frozen=True)
class FrontEnd(Config):
    """Settings that turn a track into log-mel images.

    Attributes
    ----------
    sample_rate : int > 0 (in Hz)
        Rate to which every file is resampled.
    channel : {'mix', 'first'}
        Mean of all channels, or the first channel only.
    segment_s : float > 0 (in seconds)
        Length of a segment.
    n_fft : int > 0 (in samples)
        Length of the Hann window.
    hop_length : int > 0 (in samples)
        Step from one window to the next.
    n_mels : int > 0
        Number of mel bands.
    mel_scale : {'htk', 'slaney'}
        HTK's scale with bands of equal height, or Slaney's with bands of equal area.
    f_min : float >= 0 (in Hz)
        Lower edge of the lowest band.
    f_max : float > f_min (in Hz)
        Upper edge of the highest band.
    reference : {'unit', 'peak', 'mean'}
        0 dB is a power of 1, or the highest or the mean power of each segment. The last two remove
        loudness.
    floor_db : float (in dB)
        Smallest value that is kept, relative to the reference.
    skip_silence : bool
        Leave silent segments out of training, tests and predictions, and weight the others by the
        share that is not silent.
    image_db : tuple of two floats (in dB)
        Levels that get the darkest and the brightest colour of the image.
    colormap : {'viridis', 'gray'}
        Colours of the image: matplotlib's map, or three equal channels.

    Examples
    --------
    >>> import genrecls
    >>> front_end = genrecls.FrontEnd.preset("default")
    >>> front_end.shape  # mel bands and frames of a segment
    (128, 323)
    """

    sample_rate: int = 22050
    channel: Literal["mix", "first"] = "mix"
    segment_s: float = 15.0
    n_fft: int = 2048
    hop_length: int = 1024
    n_mels: int = 128
    mel_scale: Literal["htk", "slaney"] = "htk"
    f_min: float = 30.0
    f_max: float = 8000.0
    reference: Literal["unit", "peak", "mean"] = "peak"
    floor_db: float = -80.0
    skip_silence: bool = True
    image_db: tuple[float, float] = (-80.0, 0.0)
    colormap: Literal["viridis", "gray"] = "gray"

    def __post_init__(self):
        object.__setattr__(self, "image_db", tuple(self.image_db))
        self._check("sample_rate", "n_fft", "hop_length", "n_mels")
        if self.segment_s <= 0:
            raise ValueError(f"segment_s must be above 0, not {self.segment_s!r}")
        if not 0 <= self.f_min < self.f_max <= self.sample_rate / 2:
            raise ValueError(
                f"0 <= f_min < f_max <= sample_rate / 2 is required, not f_min={self.f_min}, "
                f"f_max={self.f_max}, sample_rate={self.sample_rate}"
            )
        if len(self.image_db) != 2 or self.image_db[0] >= self.image_db[1]:
            raise ValueError(f"image_db must go from dark to bright, not {self.image_db}")

    @classmethod
    def preset(cls, name: str) -> Self:
        """Return the front end of a preset.

        Parameters
        ----------
        name : {'original', 'default', 'musicnn'}
            The original lab's front end, the corrected one, or the one that musicnn was trained
            with, at the same loudness for every segment.
        """
        return cls(**look_up(_FRONT_ENDS, name, "preset"))

    @property
    def log_mel_uid(self) -> str:
        """Identifier of the log-mels, which do not depend on the colours of the image."""
        colours = {"image_db", "colormap"}
        return hash_json({k: v for k, v in self.to_dict().items() if k not in colours})[:8]

    @property
    def segment_samples(self) -> int:
        """Length of a segment in samples."""
        return round(self.segment_s * self.sample_rate)

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of a log-mel: mel bands and frames."""
        return self.n_mels, 1 + self.segment_samples // self.hop_length


# One bit of log2 power is 3.01 dB. The original passed log2 power to a colour map that takes
# [0, 1], so that everything below 0 dB got the first colour and everything above 3.01 dB the last.
_FRONT_ENDS: dict[str, dict[str, Any]] = {
    "original": dict(
        sample_rate=44100,
        channel="first",
        n_fft=10000,
        hop_length=4096,
        n_mels=400,
        f_min=0.0,
        f_max=22050.0,
        reference="unit",
        floor_db=-100.0,
        skip_silence=False,
        image_db=(0.0, 10 * math.log10(2)),
        colormap="viridis",
    ),
    "default": {},
    # Segments with a mean power of 1 have -13 LUFS (standard deviation 1.5 dB over 198 segments),
    # which is about the loudness of the published music that musicnn was trained on.
    "musicnn": dict(
        sample_rate=16000,
        n_fft=512,
        hop_length=256,
        n_mels=96,
        mel_scale="slaney",
        f_min=0.0,
        f_max=8000.0,
        reference="mean",
        floor_db=-70.0,
        image_db=(-50.0, 20.0),
    ),
}
