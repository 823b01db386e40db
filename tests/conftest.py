"""Small corpora of generated sound, so that tests need neither the demo nor the network."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
import soundfile
from hostile_files import make_hostile_files
from hypothesis import settings

from genrecls.audio import open_audio
from genrecls.audio.fingerprint import Fingerprinter

matplotlib.use("Agg")

# A test is not about the clock: the machine may have other work.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

RATE = 22050


def chord(rng: np.random.Generator, seconds: float) -> np.ndarray:
    """Slowly beating harmonics of a new chord every second: stands in for classical music.

    No two tracks have 5 s in common, or they would be one recording.
    """
    n = round(seconds * RATE)
    tones = rng.uniform(220, 440, (3, int(seconds) + 1)).repeat(RATE, axis=1)[:, :n]
    phase = 2 * np.pi * np.cumsum(tones, axis=1) / RATE
    y = sum(np.sin(h * phase).sum(axis=0) / h for h in (1, 2, 3))
    return 0.05 * y * (1 + 0.3 * np.sin(2 * np.pi * rng.uniform(0.1, 0.3) * np.arange(n) / RATE))


def beat(rng: np.random.Generator, seconds: float) -> np.ndarray:
    """Noise bursts over a low thump: stands in for rap."""
    t = np.arange(round(seconds * RATE)) / RATE
    pulse = np.exp(-12 * (t % rng.uniform(0.4, 0.6)))
    return pulse * (0.2 * rng.standard_normal(len(t)) + 0.3 * np.sin(2 * np.pi * 60 * t))


def coloured(rng, seconds, *, slope_db=-4.5, cut_hz=None, rate=44100):
    """Generate noise with a slope in dB per octave, cut off within 500 Hz, above a floor."""
    n = round(seconds * 10) * rate // 10  # A prime number would take seconds.
    f = np.fft.rfftfreq(n, 1 / rate)
    spectrum = np.fft.rfft(rng.standard_normal(n)) * (np.maximum(f, 50) / 50) ** (slope_db / 6.02)
    if cut_hz:
        spectrum *= 10 ** (-80 / 20 * np.clip((f - cut_hz) / 500, 0, 1))
    y = np.fft.irfft(spectrum, n)
    return 0.3 * y / np.abs(y).max() + 1e-5 * rng.standard_normal(n)


def fingerprint(y, sample_rate):
    """Compute the fingerprint of samples that are all in memory."""
    fingerprinter = Fingerprinter(sample_rate)
    fingerprinter.push(y)
    return fingerprinter.finish()


def decode(file):
    """Decode all channels of a file without clipping."""
    with open_audio(file, clip=False) as audio:
        samples = np.concatenate([block.T for block in audio], axis=1)
    return SimpleNamespace(**vars(audio) | {"samples": samples, "problems": (*audio.problems,)})


SOUNDS = {"classique": chord, "rap": beat}


def write_corpus(root: Path, *, genres=("classique", "rap"), artists=3, seconds=31.0) -> Path:
    """``genre/Artist - Title.wav`` and ``genre_test/...``; every third genre mixes both sounds."""
    rng = np.random.default_rng(0)
    for i, genre in enumerate(genres):
        for split, names in (("", range(artists)), ("_test", range(90, 92))):
            folder = root / f"{genre}{split}"
            folder.mkdir(parents=True)
            for artist in names:
                parts = [SOUNDS[s](rng, seconds) for s in SOUNDS]
                y = parts[i % 3] if i % 3 < 2 else sum(parts) / 2
                soundfile.write(folder / f"{genre} {artist} - Same Title.wav", y, RATE)
    return root


@pytest.fixture(scope="session", autouse=True)
def shared_home(tmp_path_factory):
    """Keep results of tests without a project folder of their own out of the checkout."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENRECLS_HOME", str(tmp_path_factory.mktemp("shared_home")))
        yield


@pytest.fixture(scope="session")
def small_corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("music") / "small")


@pytest.fixture(scope="session")
def short_corpus(tmp_path_factory):
    """The small corpus with one segment per track, for slow steps."""
    return write_corpus(tmp_path_factory.mktemp("short") / "small", seconds=16.0)


GENRES = ("classique", "jazz", "rap")


@pytest.fixture(scope="session")
def music(tmp_path_factory):
    """A corpus of three genres."""
    return write_corpus(tmp_path_factory.mktemp("three") / "music", genres=GENRES)


@pytest.fixture(scope="session")
def bundle(music, tmp_path_factory):
    """Folder of a compact CNN, trained a little on the three genres."""
    from genrecls import train

    home = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENRECLS_HOME", str(home))
        options = {"jobs": 1, "progress": False, "epochs": 20}
        run = train(music, "compact_cnn", name="compact_cnn-default", **options)
    return run.folder


@pytest.fixture(scope="session")
def hostile(tmp_path_factory):
    """A folder of files that break naive loaders; see hostile_files.py."""
    return make_hostile_files(tmp_path_factory.mktemp("hostile"))


def copy_weights(home):
    """Give a project folder the weights of musicnn that ``make install`` fetches."""
    target = home / "models" / "weights"
    target.mkdir(parents=True)
    for name in ("musicnn_msd.data", "musicnn_mtt.data"):
        file = Path(__file__).parents[1] / "models" / "weights" / name
        if not file.exists():
            pytest.fail("the weights of musicnn are missing: run 'genrecls weights fetch musicnn'")
        shutil.copy(file, target)
    return home


def build_tiny(
    input_shape, n_classes, *, weights=None, head="pool", image=None, name="efficientnet_lite0"
):
    """Stand in for a large net, with the names of three blocks of EfficientNet-Lite0."""
    import keras

    from genrecls.models.backbone import add_head, load_weights
    from genrecls.models.image import image_input

    inputs, x = image_input(input_shape, image)
    for i in (10, 14, 15):
        options = {"strides": 2, "padding": "same", "use_bias": False}
        x = keras.layers.Conv2D(8, 3, **options, name=f"block_{i}_conv")(x)
        x = keras.layers.BatchNormalization(name=f"block_{i}_norm")(x)
        x = keras.layers.ReLU(6.0, name=f"block_{i}")(x)
    backbone = keras.Model(inputs, x)
    if weights == "imagenet":
        rng = np.random.default_rng(0)
        backbone.set_weights([abs(rng.normal(0, 0.3, w.shape)) for w in backbone.get_weights()])
    elif weights:
        load_weights(backbone, weights)
    return keras.Model(inputs, add_head(x, n_classes, head), name=name)


@pytest.fixture(autouse=True)
def own_style():
    """What has set the style of figures, a test or what it stands on, has not set it for others."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        yield


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty project folder."""
    monkeypatch.setenv("GENRECLS_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def rng():
    return np.random.default_rng(0)
