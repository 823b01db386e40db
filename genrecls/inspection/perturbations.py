"""Transformations of a recording that do not change its genre.

Each takes samples [shape=(channels, n), dtype=float32], their rate in Hz and a random generator,
and returns the transformed samples and their rate. Samples beyond full scale are not clipped.
"""

import io
from collections.abc import Callable
from functools import partial
from typing import Any

import av
import librosa
import numpy as np
import soundfile
from scipy import fft, signal

from genrecls.audio.resample import resample

Sound = tuple[np.ndarray, int]
Transformation = Callable[[np.ndarray, int, np.random.Generator], Sound]

# Sample rates of MPEG-1, -2 and -2.5 audio (in Hz).
_MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)


def _gain(y: np.ndarray, rate: int, rng: np.random.Generator, *, db: float) -> Sound:
    return y * np.float32(10 ** (db / 20)), rate


def _mono(y: np.ndarray, rate: int, rng: np.random.Generator) -> Sound:
    return np.broadcast_to(y.mean(axis=0), y.shape), rate


def _low_pass(y: np.ndarray, rate: int, rng: np.random.Generator, *, hz: float) -> Sound:
    """Filter with zero phase: 0 dB below 0.95 ``hz``, -80 dB from ``hz`` on."""
    if hz >= rate / 2:
        return y, rate
    taps, beta = signal.kaiserord(80.0, 0.05 * hz / (rate / 2))
    options: Any = {"window": ("kaiser", beta), "fs": rate}
    kernel = np.asarray(signal.firwin(taps | 1, 0.975 * hz, **options), np.float32)
    return np.asarray(signal.oaconvolve(y, kernel[None], mode="same", axes=-1)), rate


def _mp3(y: np.ndarray, rate: int, rng: np.random.Generator, *, kbit_s: int) -> Sound:
    """Encode with LAME at a constant bit rate, in pairs of channels."""
    mp3_rate = min(_MP3_RATES, key=lambda known: abs(known - rate))
    y = resample(y, rate, mp3_rate)
    decoded = np.empty_like(y)
    for first in range(0, len(y), 2):
        pair = np.ascontiguousarray(y[first : first + 2])
        layout = "stereo" if len(pair) == 2 else "mono"
        file = io.BytesIO()
        with av.open(file, "w", format="mp3") as container:
            stream = container.add_stream("libmp3lame", mp3_rate, layout=layout)
            stream.bit_rate = 1000 * kbit_s
            frame = av.AudioFrame.from_ndarray(pair, format="fltp", layout=layout)
            frame.sample_rate = mp3_rate
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        file.seek(0)
        # LAME stores its delay and padding in the first frame, and libsndfile removes both.
        decoded[first : first + 2] = soundfile.read(file, dtype="float32", always_2d=True)[0].T
    return decoded, mp3_rate


def _file_rate(y: np.ndarray, rate: int, rng: np.random.Generator, *, hz: int) -> Sound:
    return resample(y, rate, hz), hz


def _noise(y: np.ndarray, rate: int, rng: np.random.Generator, *, snr_db: float) -> Sound:
    """Add white noise, the same in all channels."""
    power = np.mean(y**2, dtype=np.float64) / 10 ** (snr_db / 10)
    noise = rng.standard_normal(y.shape[-1], dtype=np.float32)
    return y + np.float32(np.sqrt(power)) * noise, rate


def _tempo(y: np.ndarray, rate: int, rng: np.random.Generator, *, factor: float) -> Sound:
    return librosa.effects.time_stretch(y, rate=factor), rate


def _pitch(y: np.ndarray, rate: int, rng: np.random.Generator, *, semitones: int) -> Sound:
    return librosa.effects.pitch_shift(y, sr=rate, n_steps=semitones), rate


def _tilt(y: np.ndarray, rate: int, rng: np.random.Generator, *, db_per_octave: float) -> Sound:
    """Tilt the spectrum around 1 kHz; the gain is constant below 62.5 Hz and above 16 kHz."""
    hz = np.clip(fft.rfftfreq(y.shape[-1], 1 / rate), 62.5, 16000.0)
    gain = 10 ** (db_per_octave * np.log2(hz / 1000.0) / 20)
    spectrum = np.asarray(fft.rfft(y)) * gain.astype(np.float32)
    return np.asarray(fft.irfft(spectrum, y.shape[-1])), rate


#: Name and function of every transformation.
TRANSFORMATIONS: dict[str, Transformation] = {
    "gain −6 dB": partial(_gain, db=-6.0),
    "gain +6 dB": partial(_gain, db=6.0),
    "mono": _mono,
    "low-pass 8 kHz": partial(_low_pass, hz=8000),
    "low-pass 11 kHz": partial(_low_pass, hz=11000),
    "low-pass 16 kHz": partial(_low_pass, hz=16000),
    "MP3 64 kbit/s": partial(_mp3, kbit_s=64),
    "MP3 128 kbit/s": partial(_mp3, kbit_s=128),
    "MP3 320 kbit/s": partial(_mp3, kbit_s=320),
    "file at 22.05 kHz": partial(_file_rate, hz=22050),
    "file at 48 kHz": partial(_file_rate, hz=48000),
    "noise, 30 dB SNR": partial(_noise, snr_db=30.0),
    "noise, 20 dB SNR": partial(_noise, snr_db=20.0),
    "tempo −6 %": partial(_tempo, factor=0.94),
    "tempo +6 %": partial(_tempo, factor=1.06),
    "pitch −1 semitone": partial(_pitch, semitones=-1),
    "pitch +1 semitone": partial(_pitch, semitones=1),
    "tilt −1.5 dB/octave": partial(_tilt, db_per_octave=-1.5),
    "tilt +1.5 dB/octave": partial(_tilt, db_per_octave=1.5),
}
