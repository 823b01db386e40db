"""What stays of a recording when it is encoded anew: fingerprints, and who shares them.

The method is that of Haitsma and Kalker: 32 bits every 23 ms say whether the energy between
neighbouring bands rises or falls. Codecs, gain and resampling leave most of the bits as they are.
They take a frame of 0.37 s for each; here the energies of frames of 93 ms are averaged over 0.4 s,
which takes less than half of the time.

References
----------
J. Haitsma, T. Kalker: A highly robust audio fingerprinting system. ISMIR 2002.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from genrecls._utils.io import write_atomically
from genrecls._utils.paths import project_root
from genrecls.audio.resample import Resampler, to_mono
from genrecls.audio.spectra import power_spectra

#: Raise it when the same file gives another fingerprint, or the same fingerprints other pairs.
VERSION = 7

_RATE = 5512.5  # Hz, an eighth of the rate of a CD; the bands end at 2 kHz
_HOP = 128
_FRAME = 512  # samples, 93 ms
_STEP = _FRAME // 2  # from frame to frame
_SMOOTHED = 18 * _HOP  # samples: 0.4 s, so long that half a hop of misalignment hardly matters
_REACH = _FRAME + _SMOOTHED - _HOP  # samples that decide a sub-fingerprint: two means
# Sub-fingerprints, so that they stay in the cache of the processor; an even number, so that the
# next ones begin with a frame.
_AT_A_TIME = 320
# Samples at about twice the rate, 48 s, that are waited for: one batch after the other finds its
# tables in the cache, which the decoder takes for itself.
_TOGETHER = 1 << 19
_BANDS = 33
_F_MIN, _F_MAX = 300.0, 2000.0

#: Seconds between sub-fingerprints.
HOP_S = _HOP / _RATE

# Frames below -70 dBFS are noise of the medium, and matching those would make one segment of music
# out of all pauses. Zero stands for them.
_SILENT = np.uint32(0)
_SILENT_RMS = 10 ** (-70 / 20)


def fingerprint(y: np.ndarray, sample_rate: int) -> np.ndarray:
    """Sub-fingerprints of a recording.

    Parameters
    ----------
    y : np.ndarray [shape=(n,)]
        One channel.
    sample_rate : int > 0 (in Hz)

    Returns
    -------
    np.ndarray [shape=(frames,), dtype=uint32]
        One every ``HOP_S`` seconds, 0 where it is silent; empty below 0.4 s.
    """
    listener = Fingerprinter(sample_rate)
    listener.push(y)
    return listener.finish()


class Fingerprinter:
    """:func:`fingerprint`, block by block.

    Parameters
    ----------
    sample_rate : int > 0 (in Hz)
    """

    def __init__(self, sample_rate: int):
        self._mean_of = max(1, int(sample_rate / (2 * _RATE)))
        self._resampler = Resampler(sample_rate / self._mean_of, _RATE)
        self._rest = np.empty((0, 1), np.float32)  # of the samples, too few for a mean
        self._means = [np.empty(0, np.float32)]
        self._waiting = np.empty(0, np.float32)  # from the first sample of the next frame on
        self._parts = [np.empty(0, np.uint32)]

    def push(self, y: np.ndarray) -> None:
        """Take the next samples [shape=(n,) or (n, channels)]."""
        y = np.asarray(y, np.float32)
        y = y[:, None] if y.ndim == 1 else y
        y = np.concatenate([self._rest, y]) if len(self._rest) else y
        whole = len(y) // self._mean_of * self._mean_of
        self._rest = y[whole:]
        # Over the channels, and a rough filter before the exact one, which has less to do after it.
        self._means.append(to_mono(y[:whole].reshape(-1, self._mean_of * y.shape[1])))
        if sum(map(len, self._means)) >= _TOGETHER:
            self._listen()

    def finish(self) -> np.ndarray:
        """The fingerprint of all that was pushed. Nothing can be pushed after it."""
        self._listen(last=True)
        return np.concatenate(self._parts)

    def _listen(self, *, last: bool = False) -> None:
        means = np.concatenate(self._means)
        self._means = [means[:0]]
        y = np.concatenate([self._waiting, self._resampler.push(means, last=last)])
        count = max(0, (len(y) - _REACH) // _HOP + 1)
        if not last:
            count -= count % _AT_A_TIME
        for start in range(0, count, _AT_A_TIME):
            n = min(_AT_A_TIME, count - start)
            self._parts.append(_sub_fingerprints(y[start * _HOP :][: (n - 1) * _HOP + _REACH]))
        self._waiting = y[count * _HOP :]


def _sub_fingerprints(y: np.ndarray) -> np.ndarray:
    """All that can be told from samples [shape=(n,)]."""
    window, used, rises, means = _window_rises_and_means()
    frames = np.lib.stride_tricks.sliding_window_view(y, _FRAME)[::_STEP]
    power = power_spectra(frames, window, used)
    hops = y.reshape(-1, _HOP)
    count = len(hops) - _REACH // _HOP + 1
    smooth = means[: count + 1, : power.shape[1]] @ (rises @ power).T
    rising = smooth[1:] < smooth[:-1]
    bits = np.packbits(rising, axis=1).view(">u4")[:, 0].astype(np.uint32)
    total = np.r_[0.0, np.cumsum(np.einsum("ij,ij->i", hops, hops), dtype=np.float64)]
    silent = total[-count:] - total[:count] < _REACH * _SILENT_RMS**2
    return np.where(silent, _SILENT, bits)


@functools.cache
def _window_rises_and_means() -> tuple[np.ndarray, slice, np.ndarray, np.ndarray]:
    """Window of a frame, the bins of all bands, and the matrices that take the energy of a band
    from that of the next one and average over frames."""
    edges = np.round(np.geomspace(_F_MIN, _F_MAX, _BANDS + 1) * _FRAME / _RATE).astype(int)
    used = slice(edges[0], edges[-1])
    bins = np.arange(edges[0], edges[-1])
    bands = (edges[:-1, None] <= bins) & (bins < edges[1:, None])
    rises = np.diff(bands.astype(np.float32), axis=0)
    centres = _HOP * np.arange(_AT_A_TIME + 1)[:, None] + _SMOOTHED // 2 - _HOP
    frames = _STEP * np.arange((centres[-1, 0] + _SMOOTHED // 2) // _STEP + 1)
    from_centre = np.minimum(np.abs(frames - centres) / (_SMOOTHED / 2), 1)
    means = 1 + np.cos(np.pi * from_centre)  # Hann
    means /= means.sum(axis=1, keepdims=True)
    # The squares of two that overlap by half add up to 1, so that all samples count the same.
    window = np.sin(np.pi * (np.arange(_FRAME) + 0.5) / _FRAME)
    return window.astype(np.float32)[:, None], used, rises, means.astype(np.float32)


def fingerprint_file(sha256: str) -> Path:
    """Where the fingerprint of the file with a content hash is kept."""
    return project_root() / "data" / f"fingerprints-{VERSION}" / f"{sha256}.npz"


def save_fingerprint(file: Path, bits: np.ndarray) -> None:
    """Write what :func:`fingerprint` gives, with a checksum."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, lambda f: np.savez(f, bits=bits))


def load_fingerprint(file: Path) -> np.ndarray | None:
    """The fingerprint in a file; None if there is none, or it is damaged."""
    try:
        with np.load(file, allow_pickle=False) as saved:
            return saved["bits"]
    except Exception:  # there is no end of what damaged bytes make it raise
        return None


class _Kept(Sequence):
    """The kept fingerprints of files, read when they are asked for."""

    def __init__(self, hashes: Sequence[str]):
        self.hashes = list(hashes)

    def __len__(self) -> int:
        return len(self.hashes)

    def __getitem__(self, i: int) -> np.ndarray:
        return load_fingerprint(fingerprint_file(self.hashes[i]))


def read_fingerprints(hashes: Sequence[str]) -> Sequence[np.ndarray]:
    """The kept fingerprints of files, by their content hashes; one at a time is read."""
    return _Kept(hashes)
