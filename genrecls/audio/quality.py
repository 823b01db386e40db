"""Measure level, silence, clipping, loudness and bandwidth of one sound file, block by block."""

from collections import Counter
from os import PathLike
from typing import Any

import numpy as np
import pyloudnorm
from scipy.ndimage import median_filter
from scipy.signal import lfilter

from genrecls.audio.decode import open_audio
from genrecls.audio.fingerprint import Fingerprinter
from genrecls.audio.resample import to_mono
from genrecls.audio.spectra import power_spectra
from genrecls.config import FrontEnd

_SEGMENT_S = FrontEnd().segment_s
_FRAME_S = 0.05
_SILENCE_DBFS = -60.0
_N_FFT = 4096


def measure_track(path: str | PathLike) -> dict[str, Any]:
    """Measure one file, independently of the other files of a corpus.

    ``segments`` counts whole segments of 15 s, and ``remainder_s`` is the rest. Full scale is 1 for
    the ``peak`` and the largest ``dc`` of any channel. ``clipped`` is a share of all samples.
    Silence consists of frames of 50 ms below -60 dBFS RMS. ``loudness_lufs`` follows ITU-R
    BS.1770-4. ``bandwidth_hz`` is the frequency above which the sound has been cut off, for example
    by a codec, or half the sample rate. An AudioError is raised if the file cannot be decoded.
    """
    with open_audio(path, clip=False) as stream:
        rate, n, peak, total = stream.sample_rate, 0, 0.0, np.zeros(1)
        framer, silent = Framer(round(_FRAME_S * rate)), [np.empty(0, bool)]
        clipping: list[ClippingMeter] = []
        loudness, bandwidth = LoudnessMeter(rate), BandwidthMeter(rate)
        fingerprinter = Fingerprinter(rate)
        for block in stream:
            y = np.ascontiguousarray(block.T)
            n += y.shape[1]
            total = total + y.sum(axis=1)
            polarities = [x for channel in y for x in (channel, -channel)]
            peak = max(peak, *(float(x.max()) for x in polarities))
            clipping = clipping or [ClippingMeter() for _ in polarities]
            for meter, x in zip(clipping, polarities, strict=True):
                meter.push(x)
            # The standard deviation ignores a constant offset (DC), which is inaudible.
            quiet = framer.push(y).std(axis=2) < 10 ** (_SILENCE_DBFS / 20)
            silent.append(quiet.all(axis=0))
            loudness.push(y)
            mono = to_mono(np.clip(y, -1, 1).T)
            bandwidth.push(mono)
            fingerprinter.push(mono)
    is_silent = np.concatenate(silent)
    changes = np.flatnonzero(np.diff(np.r_[0, is_silent, 0]))
    segments, remainder = divmod(n, round(_SEGMENT_S * rate))
    return {
        "codec": stream.codec,
        "sample_rate": rate,
        "channels": len(total),
        "duration_s": n / rate,
        "segments": segments,
        "remainder_s": remainder / rate,
        "peak": peak,
        "dc": float(np.abs(total).max()) / n,
        "clipped": sum(meter.finish() for meter in clipping) / (n * len(total)),
        "silent": bool(is_silent.all()),
        "silent_s": float(is_silent.sum() * _FRAME_S),
        "longest_silence_s": float((changes[1::2] - changes[::2]).max(initial=0) * _FRAME_S),
        "loudness_lufs": loudness.finish(),
        "bandwidth_hz": bandwidth.finish(),
        "fingerprint": fingerprinter.finish(),
        "notes": list(stream.problems),
    }


class Framer:
    """Cut blocks [shape=(channels, n)] into frames of equal length."""

    def __init__(self, length: int):
        self._length = length
        self._remainder: np.ndarray | None = None

    def push(self, y: np.ndarray) -> np.ndarray:
        """Add a block; return the frames [shape=(channels, count, length)] that are complete."""
        if self._remainder is not None:
            y = np.concatenate([self._remainder, y], axis=1)
        count = y.shape[1] // self._length
        end = count * self._length
        self._remainder = y[:, end:]
        return y[:, :end].reshape(len(y), count, self._length)


class ClippingMeter:
    """Count the samples that are at least the third in a row at the maximum of a channel.

    The maximum of the channel is compared instead of full scale, because the level may have been
    lowered after clipping. Tones above 100 Hz do not stay within a 16-bit step for three samples.
    """

    def __init__(self):
        self._last, self._max = np.empty(0, np.float32), np.float32(0)
        # Number of samples by the lowest of the three values, as the maximum may still grow.
        self._counts: Counter[float] = Counter()

    def push(self, y: np.ndarray) -> None:
        """Add samples [shape=(n,)]."""
        y = np.concatenate([self._last, y])
        self._last, self._max = y[-2:], max(self._max, y.max())
        threshold = max(self._max - 4e-5, 0.05)
        if y.max() >= threshold:
            lowest = np.minimum(np.minimum(y[2:], y[1:-1]), y[:-2])
            self._counts.update(lowest[lowest >= threshold].tolist())
            self._counts = Counter({x: n for x, n in self._counts.items() if x >= threshold})

    def finish(self) -> int:
        """Return the count for all blocks."""
        return self._counts.total()


class LoudnessMeter:
    """Measure the loudness in LUFS (ITU-R BS.1770-4)."""

    def __init__(self, sample_rate: int):
        k_weighting = pyloudnorm.Meter(sample_rate)._filters.values()
        self._filters = [(stage.b, stage.a, np.zeros((1, 2))) for stage in k_weighting]
        self._framer = Framer(round(0.1 * sample_rate))
        self._powers = [np.empty(0)]

    def push(self, y: np.ndarray) -> None:
        """Add a block [shape=(channels, n)]."""
        if len(y) > 5:  # The fourth of six channels, that of the low frequencies, does not count.
            y = np.delete(y, 3, axis=0)[:5]
        for i, (b, a, state) in enumerate(self._filters):
            y, state = lfilter(b, a, y, zi=np.broadcast_to(state, (len(y), 2)))
            self._filters[i] = b, a, state
        gains = np.array([1, 1, 1, 1.41, 1.41])[: len(y)]
        self._powers.append(gains @ np.square(self._framer.push(y)).mean(axis=2))

    def finish(self) -> float | None:
        """Return the loudness of all blocks; None below -70 LUFS."""
        steps = np.concatenate(self._powers) * 10**-0.0691
        # The standard measures 0.4 s every 0.1 s.
        power = (steps[3:] + steps[2:-1] + steps[1:-2] + steps[:-3]) / 4
        # It drops blocks below -70 LUFS, then those 10 LU below the mean of the others.
        power = power[power >= 1e-7]
        return float(10 * np.log10(power[power > power.mean() / 10].mean())) if len(power) else None


class BandwidthMeter:
    """Find the frequency in Hz above which one channel was cut off, or half the sample rate.

    A cut is a steep edge in the mean spectrum: within 1.5 kHz the level falls by 15 dB or more,
    and it stays below. Music that fades by 12 dB per octave falls less. The cut is where the
    level is within 6 dB of that in the kilohertz below the edge for the last time.
    """

    def __init__(self, sample_rate: int):
        self._rate, self._frames, self._power = sample_rate, Framer(_N_FFT), np.zeros(_N_FFT // 2)

    def push(self, y: np.ndarray) -> None:
        """Add samples [shape=(n,)]."""
        window = np.hanning(_N_FFT + 1)[:-1, None].astype(np.float32)
        spectra = power_spectra(self._frames.push(y[None])[0], window, slice(_N_FFT // 2))
        self._power += spectra.sum(axis=1, dtype=float)

    def finish(self) -> float:
        """Return the frequency."""
        if not self._power.any():
            return self._rate / 2
        width = max(1, round(100 * _N_FFT / self._rate))  # bins of about 100 Hz
        bin_hz = width * self._rate / _N_FFT
        power = self._power[: len(self._power) // width * width].reshape(-1, width).mean(axis=1)
        # Values 110 dB below the maximum are rounding errors. The median removes single tones.
        level = 10 * np.log10(np.maximum(power, 1e-11 * power.max()))
        level = median_filter(level, 5, mode="nearest")
        highest_above = np.maximum.accumulate(level[::-1])[::-1]
        # Below 3 kHz, where an octave is narrow, music itself falls as steeply.
        edge_bins, plateau_bins, lowest = (round(hz / bin_hz) for hz in (1500, 1000, 3000))
        drop = level[lowest:-edge_bins] - highest_above[lowest + edge_bins :]
        if not len(drop) or drop.max() < 15:
            return self._rate / 2
        edge = lowest + int(drop.argmax())
        start = edge - plateau_bins
        threshold = np.median(level[start : edge + 1]) - 6
        cut = start + np.flatnonzero(level[start : edge + edge_bins] >= threshold)[-1]
        return float((cut + 1) * bin_hz)
