"""Changes to a recording that must not change its genre."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial

import numpy as np

from genrecls.audio.resample import resample

# What there is in MPEG-1, -2 and -2.5 audio (in Hz).
_MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)


def _gain(y, rate, rng, *, db):
    """Nothing is cut off at full scale: this is to measure gain, not distortion."""
    return y * np.float32(10 ** (db / 20)), rate


def _mono(y, rate, rng):
    """The mean of the channels in every channel."""
    return np.broadcast_to(y.mean(axis=0), y.shape), rate


def _low_pass(y, rate, rng, *, hz):
    """Zero phase; unchanged below 0.95 ``hz``, 80 dB down from ``hz`` on."""
    from scipy import signal

    if hz >= rate / 2:
        return y, rate
    taps, beta = signal.kaiserord(80.0, 0.05 * hz / (rate / 2))
    kernel = signal.firwin(taps | 1, 0.975 * hz, window=("kaiser", beta), fs=rate)
    kernel = kernel.astype(np.float32)[None]
    return signal.oaconvolve(y, kernel, mode="same", axes=-1), rate


def _mp3(y, rate, rng, *, kbit_s):
    """Encoded by LAME at a constant bit rate, and decoded without its delay.

    A rate that MP3 has not is resampled to the nearest, and more than two channels are encoded
    two by two. At 24 kHz and below, MP3 ends at 160 kbit/s.
    """
    import av
    import soundfile

    mp3_rate = min(_MP3_RATES, key=lambda known: abs(known - rate))
    y = resample(y, rate, mp3_rate)
    decoded = np.empty_like(y)
    for first in range(0, len(y), 2):
        pair = np.ascontiguousarray(y[first : first + 2])
        layout = "stereo" if len(pair) == 2 else "mono"
        file = io.BytesIO()
        with av.open(file, "w", format="mp3") as container:
            stream = container.add_stream(
                "libmp3lame", rate=mp3_rate, layout=layout, bit_rate=1000 * kbit_s
            )
            frame = av.AudioFrame.from_ndarray(pair, format="fltp", layout=layout)
            frame.sample_rate = mp3_rate
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        file.seek(0)
        # The encoder notes its delay and padding in the first frame; libsndfile goes by that.
        decoded[first : first + 2] = soundfile.read(file, dtype="float32", always_2d=True)[0].T
    return decoded, mp3_rate


def _file_rate(y, rate, rng, *, hz):
    return resample(y, rate, hz), hz


def _noise(y, rate, rng, *, snr_db):
    """White and Gaussian, the same in all channels, relative to the power of the excerpt."""
    power = np.mean(y**2, dtype=np.float64) / 10 ** (snr_db / 10)
    noise = rng.standard_normal(y.shape[-1], dtype=np.float32)
    return y + np.float32(np.sqrt(power)) * noise, rate


def _tempo(y, rate, rng, *, factor):
    import librosa

    return librosa.effects.time_stretch(y, rate=factor), rate


def _pitch(y, rate, rng, *, semitones):
    import librosa

    return librosa.effects.pitch_shift(y, sr=rate, n_steps=semitones), rate


def _tilt(y, rate, rng, *, db_per_octave):
    """Straight over the octaves, 0 dB at 1 kHz, constant below 62.5 Hz and above 16 kHz."""
    from scipy import fft

    hz = np.clip(fft.rfftfreq(y.shape[-1], 1 / rate), 62.5, 16000.0)
    gain = 10 ** (db_per_octave * np.log2(hz / 1000.0) / 20)
    return fft.irfft(fft.rfft(y) * gain.astype(np.float32), y.shape[-1]), rate


#: What must not matter. Each takes samples [shape=(channels, n), dtype=float32], their rate in
#: Hz and a generator, and returns changed samples and their rate.
TRANSFORMATIONS: dict[
    str, Callable[[np.ndarray, int, np.random.Generator], tuple[np.ndarray, int]]
] = {
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
