"""Sound is a picture too: music genres from mel-spectrogram pictures.

The names below are all that most users need; each is imported when it is first used, so that
``import genrecls`` loads neither TensorFlow nor torch.
"""

import importlib

__version__ = "0.1.0"

_HOME = {
    "AudioError": "audio",
    "AudioWarning": "audio",
    "load_audio": "audio",
    "resample": "audio",
    "FrontEnd": "config",
    "Recipe": "config",
    "Corpus": "corpus",
    "assign_splits": "corpus",
    "split_table": "corpus",
    "mel_spectrogram": "spectrogram",
    "split_segments": "spectrogram",
    "to_image": "spectrogram",
    "prepare": "features",
    "build_cnn": "models",
    "build_compact_cnn": "models",
    "build_efficientnet_lite0": "models",
    "build_inception_resnet_v2": "models",
    "train": "training",
    "live_plot": "training",
    "GenreClassifier": "bundle",
    "cross_validate": "crossval",
    "comparison_table": "evaluation",
    "first_layer_activations": "explain",
    "make_demo": "demo",
}
__all__ = ["__version__", *_HOME]


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'genrecls' has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)


def __dir__():
    return __all__
