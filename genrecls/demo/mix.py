"""Mixing, effects and MP3 encoding for the demo corpus.

A sound is a float32 array of shape (frames, 2) at 44.1 kHz, with full scale at 1.
"""

from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from scipy.signal import butter, lfilter, oaconvolve, sosfilt

from genrecls._utils.io import write_atomically

RATE = 44_100  # Hz


@dataclass(frozen=True)
class Recording:
    """The room and the recording equipment of an artist."""

    reverb_s: float  # time in which the reverberation falls by 60 dB
    reverb_share: float  # level of the reverberation relative to the direct sound
    treble_db: float  # gain above 2.5 kHz
    noise_db: float  # level of the background noise relative to full scale


def add(out: np.ndarray, sound: np.ndarray, start_s: float, gain: float | np.ndarray = 1.0) -> None:
    """Add a sound to a mix, in place; samples beyond its end are dropped.

    ``gain`` is a factor for the sound, or one for each channel.
    """
    start = round(start_s * RATE)
    audible = sound[: max(len(out) - start, 0)]
    out[start : start + len(audible)] += np.float32(gain) * audible


def add_reverb(sound: np.ndarray, recording: Recording, rng: np.random.Generator) -> np.ndarray:
    """Add the reverberation of a room, which is decaying noise."""
    time = np.arange(int(recording.reverb_s * RATE)) / RATE
    decay = 10 ** (-3 * time / recording.reverb_s)
    room = rng.standard_normal((len(time), 2)) * decay[:, None]
    # Air and walls absorb the treble first; the mean of neighbours weakens it.
    room = np.float32(room + np.roll(room, 1, 0) + np.roll(room, 2, 0))
    room *= np.float32(recording.reverb_share) / np.sqrt((room**2).sum(0))
    wet = oaconvolve(sound.mean(1, keepdims=True), room, axes=0)[: len(sound)]
    wet += sound
    return wet


def change_treble(sound: np.ndarray, gain_db: float) -> np.ndarray:
    """Raise or lower all frequencies above 2.5 kHz."""
    b, a = np.asarray(butter(1, 2500.0, "high", fs=RATE), np.float32)
    treble = np.asarray(lfilter(b, a, sound, axis=0))
    treble *= np.float32(10 ** (gain_db / 20) - 1)
    treble += sound
    return treble


def compress(voice: np.ndarray) -> np.ndarray:
    """Compress the dynamics of a voice by 4:1 above an RMS of 0.1."""
    hop = RATE // 100
    power = np.add.reduceat(voice**2, np.arange(0, len(voice), hop)) / hop
    power = np.convolve(power, np.ones(6) / 6, "same")  # 60 ms, about a syllable
    gain = np.maximum(np.sqrt(power) / 0.1, 1) ** (1 / 4 - 1)
    gain = np.interp(np.arange(len(voice)), np.arange(len(gain)) * hop, gain)
    return voice * gain.astype(np.float32)


def master(
    sound: np.ndarray,
    recording: Recording,
    rng: np.random.Generator,
    *,
    drive: float,
    peak: float,
) -> np.ndarray:
    """Saturate a mix, remove frequencies below 25 Hz, set its peak and add noise.

    ``drive`` is the peak that enters the saturation, which is a hyperbolic tangent. ``peak`` is
    the largest absolute sample before the noise is added.
    """
    sound = np.tanh(sound * np.float32(drive / np.abs(sound).max()))
    high_pass = np.asarray(butter(2, 25, "high", fs=RATE, output="sos"), np.float32)
    sound = np.asarray(sosfilt(high_pass, sound, axis=0))
    sound *= np.float32(peak / np.abs(sound).max())
    noise = rng.standard_normal(sound.shape, np.float32)
    noise *= np.float32(10 ** (recording.noise_db / 20))
    noise += sound
    return noise


def write_mp3(path: Path, sound: np.ndarray, **tags: str) -> None:
    """Write a stereo MP3 file of about 128 kbit/s, which appears only when it is complete."""
    # Encoding takes half of the time of the demo; these are the fastest settings of LAME.
    options = {"compression_level": "9", "abr": "1", "joint_stereo": "0"}
    samples = np.ascontiguousarray(sound.T, np.float32)
    frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="stereo")
    frame.rate = RATE

    def encode(file) -> None:
        with av.open(file, "w", format="mp3") as container:
            container.metadata.update(tags)
            stream = container.add_stream("libmp3lame", rate=RATE, layout="stereo", options=options)
            stream.bit_rate = 128_000
            fifo = av.AudioFifo()
            fifo.write(frame)
            while block := fifo.read(stream.frame_size, partial=True):
                container.mux(stream.encode(block))
            container.mux(stream.encode(None))

    write_atomically(path, encode)
