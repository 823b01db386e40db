"""What can be chosen, as frozen data: the front end, the training recipe, and where files live.

Every choice has two presets. ``original`` is what the original lab did, faults included;
``default`` is what we hold to be right. ``README.md`` lists the differences.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

PRESETS = ("original", "default")
MODELS = ("cnn", "compact_cnn", "inception_resnet_v2", "efficientnet_lite0")
#: Models with a backbone that can be frozen, and weights of its own.
BACKBONES = ("inception_resnet_v2", "efficientnet_lite0")


#: Calibrated probability below which a prediction is "not sure": of those at this probability, four in
#: ten are wrong.
MIN_CONFIDENCE = 0.6


class _Config:
    """Checks and hashes shared by the frozen dataclasses below."""

    @classmethod
    def from_dict(cls, values: dict[str, Any]):
        """Build from a plain dictionary (a card, a JSON file).

        Raises
        ------
        ValueError
            If a key is unknown: a misspelt option must not be ignored.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ValueError(f"{cls.__name__} has no {unknown}; it has {known}")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain, JSON-ready values."""
        return dataclasses.asdict(self)

    def uid(self) -> str:
        """Eight hexadecimal digits that name these values: the hash of their sorted JSON."""
        return hash_json(self.to_dict())[:8]


def hash_json(value: Any) -> str:
    """SHA-256 of a JSON-ready value, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class FrontEnd(_Config):
    """How a track becomes log-mel images.

    Attributes
    ----------
    sample_rate : int > 0 (in Hz)
        Rate to which every file is resampled.
    channel : {'mix', 'first'}
        Mean of all channels, or the first one only.
    segment_s : float > 0 (in seconds)
        Length of a segment.
    n_fft, hop_length : int > 0 (in samples)
        Length of the Hann window and step between windows.
    n_mels : int > 0
        Number of mel bands (HTK scale, no area normalisation).
    f_min, f_max : float >= 0 (in Hz)
        Lower edge of the lowest and upper edge of the highest band.
    reference : {'unit', 'peak'}
        What 0 dB is: a power of 1, or the loudest value of each segment (which takes loudness out).
    floor_db : float (in dB)
        Smallest value kept, relative to the reference.
    skip_silence : bool
        Leave segments without sound out of training, tests and predictions.
    image_db : tuple of two floats (in dB)
        Levels drawn as the darkest and the brightest colour.
    colormap : {'viridis', 'gray', 'deltas'}
        What the three channels of the image are: the colours of matplotlib's map; three times
        the level; or the level, its change over time, and the change of that.

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
    f_min: float = 30.0
    f_max: float = 8000.0
    reference: Literal["unit", "peak"] = "peak"
    floor_db: float = -80.0
    skip_silence: bool = True
    image_db: tuple[float, float] = (-80.0, 0.0)
    colormap: Literal["viridis", "gray", "deltas"] = "gray"

    def __post_init__(self):
        object.__setattr__(self, "image_db", tuple(self.image_db))
        if self.channel not in ("mix", "first"):
            raise ValueError(f"channel is 'mix' or 'first', not {self.channel!r}")
        if self.reference not in ("unit", "peak"):
            raise ValueError(f"reference is 'unit' or 'peak', not {self.reference!r}")
        if self.colormap not in ("viridis", "gray", "deltas"):
            raise ValueError(f"colormap is 'viridis', 'gray' or 'deltas', not {self.colormap!r}")
        for name in ("sample_rate", "n_fft", "hop_length", "n_mels"):
            value = getattr(self, name)
            if not (isinstance(value, int) and value > 0):
                raise ValueError(f"{name} is a whole number above 0, not {value!r}")
        if self.segment_s <= 0:
            raise ValueError(f"segment_s is greater than 0, not {self.segment_s!r}")
        if not 0 <= self.f_min < self.f_max <= self.sample_rate / 2:
            raise ValueError(
                f"need 0 <= f_min < f_max <= sample_rate / 2, not f_min={self.f_min}, "
                f"f_max={self.f_max}, sample_rate={self.sample_rate}"
            )
        if len(self.image_db) != 2 or self.image_db[0] >= self.image_db[1]:
            raise ValueError(f"image_db goes from dark to bright, not {self.image_db}")

    @classmethod
    def preset(cls, name: str) -> FrontEnd:
        """The front end called ``original`` (the original's) or ``default`` (ours)."""
        return cls(**_look_up(_FRONT_ENDS, name))

    @property
    def log_mel_uid(self) -> str:
        """Name of the log-mels, which do not depend on how they are drawn."""
        drawn = {"image_db", "colormap"}
        return hash_json({k: v for k, v in self.to_dict().items() if k not in drawn})[:8]

    @property
    def segment_samples(self) -> int:
        """Length of a segment in samples."""
        return round(self.segment_s * self.sample_rate)

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of a log-mel: (mel bands, frames)."""
        return self.n_mels, 1 + self.segment_samples // self.hop_length


@dataclass(frozen=True)
class Recipe(_Config):
    """How a model is trained.

    Attributes
    ----------
    model : {'cnn', 'compact_cnn', 'inception_resnet_v2', 'efficientnet_lite0'}
        Which builder.
    split_by : {'segment', 'track', 'artist'}
        How validation is held out: shuffled segments (leaky: segments of one track stand on both
        sides), whole tracks (leaky: an artist stands on both sides), or whole artists.
    optimizer : {'sgd', 'adam'}
        Update rule.
    learning_rate : float > 0
        Initial rate.
    halve_every : int > 0, optional
        Halve the rate at every epoch divisible by this number, epoch 0 included.
    warm_up : int > 0, optional
        Let the rate rise in a line over so many epochs, then fall to 0 in half a cosine.
    batch_size, epochs : int > 0
        Segments an update, and the most passes over the data.
    patience : int > 0, optional
        Stop after so many epochs without a lower validation loss, and restore the best weights.
    class_weights : bool
        Weigh the genres by the inverse of their number of segments.
    crop : int > 0, optional (in frames)
        Train on a stretch of each segment, at a random time; for nets that take any length.
    mixup : float in [0, 1]
        Mix each training segment with another one, up to this share.
    time_mask : int >= 0 (in frames)
        Hide a random stretch of each training segment, at most so long.
    frequency_mask : int >= 0 (in mel bands)
        Hide random neighbouring bands of each training segment, at most so many.
    gain_db : float >= 0 (in dB)
        Make each training segment louder or softer, by at most so much.
    time_shift : bool
        Rotate each training segment in time: what is pushed out at its end comes in at its start.
    backbone : {'trained', 'frozen'}
        Of a net with a backbone: train all of it at once, or in stages. The first stage trains the
        head on what the frozen backbone says.
    fine_tune_after : str, optional
        Second stage: train what comes after this layer of the backbone as well. None: there is none.
    fine_tune_epochs : int > 0
    fine_tune_rate : float > 0
        Most passes and initial rate of the second stage.
    head : {'flatten', 'pool'}
        Of a net with a backbone: the original's (32 units on the flattened map), or one on its mean.
    weights : str, optional
        Of the backbone: ``'imagenet'``, the path of a weights file, or None for random ones.
    input_range : tuple of two floats
        Values given to the darkest and brightest colour.
    random_seed : int >= 0
        Seed of the split, the initial weights, dropout and the order of batches.

    Examples
    --------
    >>> import genrecls
    >>> recipe = genrecls.Recipe.preset("default", "compact_cnn", epochs=20)
    >>> recipe.optimizer, recipe.epochs
    ('adam', 20)
    """

    model: Literal["cnn", "compact_cnn", "inception_resnet_v2", "efficientnet_lite0"] = "cnn"
    split_by: Literal["segment", "track", "artist"] = "artist"
    optimizer: Literal["sgd", "adam"] = "adam"
    learning_rate: float = 3e-4
    halve_every: int | None = None
    warm_up: int | None = 4
    batch_size: int = 16
    epochs: int = 40
    patience: int | None = None
    class_weights: bool = True
    crop: int | None = None
    mixup: float = 0.0
    time_mask: int = 0
    frequency_mask: int = 0
    gain_db: float = 0.0
    time_shift: bool = False
    backbone: Literal["trained", "frozen"] = "trained"
    fine_tune_after: str | None = None
    fine_tune_epochs: int = 20
    fine_tune_rate: float = 1e-4
    head: Literal["flatten", "pool"] = "flatten"
    weights: str | None = None
    input_range: tuple[float, float] = (0.0, 1.0)
    random_seed: int = 0

    def __post_init__(self):
        object.__setattr__(self, "input_range", tuple(self.input_range))
        for name, allowed in {
            "model": MODELS,
            "split_by": ("segment", "track", "artist"),
            "optimizer": ("sgd", "adam"),
            "backbone": ("trained", "frozen"),
            "head": ("flatten", "pool"),
        }.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is one of {allowed}, not {getattr(self, name)!r}")
        for name in ("batch_size", "epochs", "fine_tune_epochs"):
            if not (isinstance(getattr(self, name), int) and getattr(self, name) > 0):
                raise ValueError(f"{name} is a whole number above 0, not {getattr(self, name)!r}")
        if self.crop and self.model != "compact_cnn":
            raise ValueError(f"crop is for nets that take any length; {self.model!r} does not")
        if not 0 <= self.mixup <= 1:
            raise ValueError(f"mixup is a share from 0 to 1, not {self.mixup!r}")
        for name in ("time_mask", "frequency_mask", "gain_db"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is at least 0, not {getattr(self, name)!r}")
        if self.model not in BACKBONES and (self.backbone == "frozen" or self.weights):
            raise ValueError(f"{self.model!r} has no backbone to freeze or to give weights")
        if self.backbone == "frozen" and self.augmented:
            raise ValueError(
                "what a frozen backbone says is computed once, so that segments cannot be changed at "
                "random; set crop, mixup, the masks, gain_db and time_shift to nothing"
            )
        if self.fine_tune_after and self.backbone != "frozen":
            raise ValueError("fine_tune_after is the second stage after backbone='frozen'")
        if self.halve_every and self.warm_up:
            raise ValueError("halve_every and warm_up are two plans for the rate; set one to None")

    @property
    def augmented(self) -> bool:
        """Whether training segments are changed at random."""
        return any(
            (self.crop, self.mixup, self.time_mask, self.frequency_mask, self.gain_db,
             self.time_shift)
        )  # fmt: skip

    @classmethod
    def preset(cls, name: str, model: str = "cnn", **changes: Any) -> Recipe:
        """The recipe called ``original`` or ``default`` for a model, with changes if any."""
        values = _look_up(_look_up(_RECIPES, name), model)
        return cls.from_dict({"model": model, **values, **changes})

    def choices(self) -> dict[str, Any]:
        """The fields that are not off (None, 0, False): an option that is off decides nothing."""
        return {k: v for k, v in self.to_dict().items() if v not in (None, 0)}

    @staticmethod
    def preset_models(preset: str) -> tuple[str, ...]:
        """Models that a preset has a recipe for: the compact CNN is none of the original's."""
        return tuple(_look_up(_RECIPES, preset))


def run_name(preset: str, recipe: Recipe) -> str:
    """Name of a run: model and preset, and what of the recipe is not as usual.

    As usual means the preset, but with a frozen backbone: two CPU cores take hours for a whole
    InceptionResNetV2. A run of another recipe thus never takes the place of the usual one.
    """
    frozen = {"backbone": "frozen"} if recipe.model in BACKBONES else {}
    usual = Recipe.preset(preset, recipe.model, **frozen).to_dict()
    changed = {k: v for k, v in recipe.to_dict().items() if v != usual[k]}
    if "weights" in changed:
        changed["weights"] = Path(changed["weights"] or "random").stem
    if "backbone" in changed:
        changed.pop("fine_tune_after", None)  # there are no stages
    parts = [f"{recipe.model}-{preset}", *(f"{k}-{v}" for k, v in sorted(changed.items()))]
    return "-".join(parts)


# One bit of log2 power is 3.01 dB. The original fed log2 power to a colour map that takes
# [0, 1], so that all below 0 dB came out as its first colour and all above 3.01 dB as its last.
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
}

_ORIGINAL_RECIPE = dict(
    split_by="segment",
    optimizer="sgd",
    learning_rate=1e-3,
    warm_up=None,
    batch_size=10,
    class_weights=False,
)
_STAGES = dict(backbone="frozen", head="pool", learning_rate=1e-3, patience=10)
_RECIPES: dict[str, dict[str, dict[str, Any]]] = {
    "original": {
        "cnn": dict(_ORIGINAL_RECIPE, epochs=150, halve_every=10),
        "inception_resnet_v2": dict(_ORIGINAL_RECIPE, epochs=50),
    },
    "default": {
        "cnn": {},
        "compact_cnn": dict(
            learning_rate=1e-3,
            epochs=60,
            class_weights=False,
            crop=128,
            mixup=0.5,
            input_range=(-1.0, 1.0),
        ),
        "inception_resnet_v2": dict(
            _STAGES, fine_tune_after="block8_9_ac", input_range=(-1.0, 1.0)
        ),
        # It was trained on (level - 127) / 128 of levels from 0 to 255.
        "efficientnet_lite0": dict(
            _STAGES,
            fine_tune_after="block_10",
            weights="imagenet",
            input_range=(-127 / 128, 1.0),
        ),
    },
}


def _look_up(table: dict[str, Any], name: str) -> Any:
    if name not in table:
        raise ValueError(f"no {name!r}; there is {', '.join(map(repr, table))}")
    return table[name]
