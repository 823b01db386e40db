"""Compute fingerprints, which are similar for all encodings of a recording, and store them.

Every 23 ms, 32 bits state whether the energy difference between neighbouring bands rises or
falls. Codecs, gain and resampling leave most bits unchanged. The paper takes the energies from
one frame of 0.37 s; here they are averages over the frames of 93 ms within 0.4 s, which takes
less than half of the time.

Reference: J. Haitsma, T. Kalker: A highly robust audio fingerprinting system with an efficient
search strategy. Journal of New Music Research 32(2), 2003. doi:10.1076/jnmr.32.2.211.16746
"""

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from genrecls._utils import cache
from genrecls.audio.resample import Resampler, to_mono
from genrecls.audio.spectra import power_spectra

_RATE = 5512.5  # Hz, an eighth of the rate of a CD; the bands end at 2 kHz
_HOP = 128
_FRAME = 512  # samples, 93 ms
_FRAME_STEP = _FRAME // 2
_AVERAGE = 18 * _HOP  # samples: 0.4 s, so that misalignment by half a hop hardly matters
_CONTEXT = _FRAME + _AVERAGE - _HOP  # samples that decide one sub-fingerprint: two averages
# Sub-fingerprints that are computed together fit into the cache of the processor. Their number is
# even, so that the next ones begin with a frame.
_BATCH = 320
_BANDS = 33
_F_MIN, _F_MAX = 300.0, 2000.0

#: Seconds from one sub-fingerprint to the next.
HOP_S = _HOP / _RATE

#: Sub-fingerprint of silence, which must not match. Below -70 dBFS there is only noise.
SILENT = np.uint32(0)
_SILENT_RMS = 10 ** (-70 / 20)


class Fingerprinter:
    """Compute a fingerprint block by block."""

    def __init__(self, sample_rate: int):
        # Averages of a few samples are a rough filter, which saves the exact one time.
        self._factor = max(1, int(sample_rate / (2 * _RATE)))
        self._resampler = Resampler(sample_rate / self._factor, _RATE)
        self._partial = np.empty((0, 1), np.float32)  # samples, too few for an average
        self._waiting = np.empty(0, np.float32)  # samples from the next frame on
        self._bits = [np.empty(0, np.uint32)]

    def push(self, block: np.ndarray) -> None:
        """Add samples [shape=(n,) or (n, channels)]; channels are averaged."""
        y = np.asarray(block, np.float32)
        y = y[:, None] if y.ndim == 1 else y
        y = np.concatenate([self._partial, y]) if len(self._partial) else y
        n = len(y) // self._factor * self._factor
        self._partial = y[n:]
        self._extract(to_mono(y[:n].reshape(-1, self._factor * y.shape[1])))

    def finish(self) -> np.ndarray:
        """Return the fingerprint of all blocks, after which none can be added."""
        self._extract(np.empty(0, np.float32), last=True)
        return np.concatenate(self._bits)

    def _extract(self, averages: np.ndarray, *, last: bool = False) -> None:
        y = np.concatenate([self._waiting, self._resampler.push(averages, last=last)])
        count = max(0, (len(y) - _CONTEXT) // _HOP + 1)
        if not last:
            count -= count % _BATCH
        for start in range(0, count, _BATCH):
            n = min(_BATCH, count - start)
            self._bits.append(_sub_fingerprints(y[start * _HOP :][: (n - 1) * _HOP + _CONTEXT]))
        self._waiting = y[count * _HOP :]


def _sub_fingerprints(y: np.ndarray) -> np.ndarray:
    """Compute all sub-fingerprints that samples [shape=(n,)] decide."""
    window, bins, band_differences, averages = _matrices()
    frames = np.lib.stride_tricks.sliding_window_view(y, _FRAME)[::_FRAME_STEP]
    power = power_spectra(frames, window, bins)
    hops = y.reshape(-1, _HOP)
    count = len(hops) - _CONTEXT // _HOP + 1
    smooth = averages[: count + 1, : power.shape[1]] @ (band_differences @ power).T
    rising = smooth[1:] < smooth[:-1]
    bits = np.packbits(rising, axis=1).view(">u4")[:, 0].astype(np.uint32)
    total = np.r_[0.0, np.cumsum(np.einsum("ij,ij->i", hops, hops), dtype=np.float64)]
    silent = total[-count:] - total[:count] < _CONTEXT * _SILENT_RMS**2
    return np.where(silent, SILENT, bits)


@functools.cache
def _matrices() -> tuple[np.ndarray, slice, np.ndarray, np.ndarray]:
    """Return the window, the bins of all bands, and matrices of band differences and averages."""
    edges = np.round(np.geomspace(_F_MIN, _F_MAX, _BANDS + 1) * _FRAME / _RATE).astype(int)
    bins = np.arange(edges[0], edges[-1])
    bands = (edges[:-1, None] <= bins) & (bins < edges[1:, None])
    band_differences = np.diff(bands.astype(np.float32), axis=0)
    centres = _HOP * np.arange(_BATCH + 1)[:, None] + _AVERAGE // 2 - _HOP
    frames = _FRAME_STEP * np.arange((centres[-1, 0] + _AVERAGE // 2) // _FRAME_STEP + 1)
    distance = np.minimum(np.abs(frames - centres) / (_AVERAGE / 2), 1)
    averages = 1 + np.cos(np.pi * distance)  # Hann
    averages /= averages.sum(axis=1, keepdims=True)
    # The squares of two windows that overlap by half add up to 1: all samples count equally.
    window = np.sin(np.pi * (np.arange(_FRAME) + 0.5) / _FRAME).astype(np.float32)[:, None]
    return window, slice(edges[0], edges[-1]), band_differences, averages.astype(np.float32)


def fingerprint_file(sha256: str) -> Path:
    """Return the cache entry for the fingerprint of a file."""
    return cache.entry("fingerprints", sha256)


def save_fingerprint(path: Path, bits: np.ndarray) -> None:
    """Store a fingerprint as a cache entry."""
    with cache.new(path) as (folder, _):
        np.save(folder / "bits.npy", bits)


def load_fingerprint(path: Path) -> np.ndarray:
    """Load a fingerprint [shape=(frames,), dtype=uint32] from its cache entry, if it is intact."""
    return np.load(path / "bits.npy", allow_pickle=False)


class StoredFingerprints(Sequence):
    """The stored fingerprints of files; each is loaded when it is used."""

    def __init__(self, hashes: Sequence[str]):
        self._paths = [fingerprint_file(sha256) for sha256 in hashes]

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, i: int) -> np.ndarray:
        return load_fingerprint(self._paths[i])
