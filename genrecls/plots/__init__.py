"""Figures. Each function draws given data on given axes and returns them."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "results": [
            "confusion",
            "fine_tuning",
            "history",
            "intervals",
            "reliability",
            "robustness",
        ],
        "sound": [
            "channel_segments",
            "first_layer",
            "format_probabilities",
            "log_mel",
            "prediction",
            "saliency_maps",
            "spectrogram_image",
            "taggram",
            "track",
            "waveform",
        ],
        "style": ["COLORS", "HZ_TICKS", "style"],
    },
)
