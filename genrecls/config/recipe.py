"""The recipe: how a model is trained."""

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from genrecls.config.base import Config, hash_json, look_up
from genrecls.config.front_end import FrontEnd

#: Names of the presets.
PRESETS = ("original", "default")
#: Models with a backbone that can be frozen, and the names of its weights.
BACKBONES = {
    "inception_resnet_v2": ("imagenet",),
    "efficientnet_lite0": ("imagenet",),
    "efficientnet_lite0_frozen": ("imagenet",),
    "musicnn": ("msd", "mtt"),
}
#: Names of the models.
MODELS = ("cnn", "compact_cnn", *BACKBONES)
#: Ways to hold out validation tracks, the most leaky first.
SPLIT_BY = ("segment", "track", "artist")
_MAX_NAME = 100  # bytes of the name of a run


@dataclass(frozen=True)
class Recipe(Config):
    """Settings that decide how a model is trained.

    Attributes
    ----------
    model : str
        ``'cnn'``, ``'compact_cnn'``, ``'inception_resnet_v2'``, ``'efficientnet_lite0'``,
        ``'efficientnet_lite0_frozen'``, ``'musicnn'``, or the name of the user's own builder.
    split_by : {'segment', 'track', 'artist'}
        How validation is held out: shuffled segments (leaky: segments of one track are on both
        sides), whole tracks (leaky: an artist is on both sides), or whole artists.
    optimizer : {'sgd', 'adam'}
        Update rule.
    learning_rate : float > 0
        Initial learning rate.
    halve_every : int > 0, optional
        Halve the learning rate at every epoch divisible by this number, epoch 0 included.
    warm_up : int > 0, optional
        Raise the learning rate over this many epochs, then lower it to 0 along half a cosine.
    batch_size : int > 0
        Segments per update.
    epochs : int > 0
        Largest number of passes over the data.
    patience : int > 0, optional
        Stop after this many epochs without a lower validation loss, and restore the best weights.
    class_weights : bool
        Weight the genres by the inverse of their number of segments.
    crop : int > 0, optional (in frames)
        Train on a random stretch of each segment; for models that take any length.
    mixup : float in [0, 1]
        Mix each training segment with another one, up to this share.
    backbone : {'trained', 'frozen'}
        For a model with a backbone: train all of it at once, or in stages, of which the first
        trains the head on the outputs of the frozen backbone.
    fine_tune_after : str, optional
        Second stage: also train the blocks after this layer of the backbone.
    fine_tune_epochs : int > 0
        Largest number of passes in the second stage.
    fine_tune_rate : float > 0
        Initial learning rate of the second stage.
    head : {'flatten', 'pool', 'logistic'}
        For a model with a backbone; see :func:`genrecls.build_inception_resnet_v2`. The last one is
        a logistic regression on the embeddings of the frozen backbone, which is fitted at once.
    weights : str, optional
        Weights of the backbone: ``'imagenet'``, for musicnn ``'msd'`` or ``'mtt'``, the path of a
        file, or None for random ones.
    input_range : tuple of two floats
        Values that the model receives for the darkest and the brightest colour.
    batch_norm_momentum : float in [0, 1)
        Share of the former statistics that batch normalization keeps at every update. With Keras'
        0.99, a small corpus has too few updates to forget the initial ones.
    random_seed : int >= 0
        Seed of the split, the initial weights, dropout and the order of batches.

    Examples
    --------
    >>> import genrecls
    >>> recipe = genrecls.Recipe.preset("default", "compact_cnn", epochs=20)
    >>> recipe.optimizer, recipe.epochs
    ('adam', 20)
    """

    model: str = "cnn"
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
    backbone: Literal["trained", "frozen"] = "trained"
    fine_tune_after: str | None = None
    fine_tune_epochs: int = 20
    fine_tune_rate: float = 1e-4
    head: Literal["flatten", "pool", "logistic"] = "flatten"
    weights: str | None = None
    input_range: tuple[float, float] = (0.0, 1.0)
    batch_norm_momentum: float = 0.9
    random_seed: int = 0

    def __post_init__(self):
        object.__setattr__(self, "input_range", tuple(self.input_range))
        object.__setattr__(self, "weights", self.weights and os.fspath(self.weights))
        self._check("batch_size", "epochs", "fine_tune_epochs")
        if self.crop and self.model in MODELS and self.model != "compact_cnn":
            raise ValueError(f"crop needs a model that takes any length; {self.model!r} does not")
        if not 0 <= self.mixup <= 1:
            raise ValueError(f"mixup must be a share from 0 to 1, not {self.mixup!r}")
        if self.model not in BACKBONES and (self.backbone == "frozen" or self.weights):
            raise ValueError(f"{self.model!r} has no backbone to freeze or to give weights")
        if self.backbone == "frozen" and self.augmented:
            raise ValueError(
                "the outputs of a frozen backbone are computed once, so that segments cannot be "
                "changed at random; set crop=None and mixup=0"
            )
        if self.fine_tune_after and self.backbone != "frozen":
            raise ValueError("fine_tune_after is a second stage and needs backbone='frozen'")
        if self.head == "logistic" and (self.backbone != "frozen" or self.fine_tune_after):
            raise ValueError("head='logistic' needs backbone='frozen' and fine_tune_after=None")
        if self.model == "musicnn" and self.head != "logistic":
            raise ValueError("'musicnn' needs head='logistic'")
        if self.halve_every and self.warm_up:
            raise ValueError("halve_every and warm_up exclude each other; set one of them to None")

    @property
    def augmented(self) -> bool:
        """Whether training segments are changed at random."""
        return bool(self.crop or self.mixup)

    @classmethod
    def preset(cls, name: str, model: str = "cnn", **changes: Any) -> Self:
        """Return the recipe of a preset for a model, with changes if any.

        Parameters
        ----------
        name : {'original', 'default'}
            The original lab's recipe, or the corrected one.
        model : str
            Name of the model.
        **changes
            Fields of :class:`Recipe` that replace those of the preset.
        """
        values = look_up(look_up(_RECIPES, name, "preset"), model, f"{name} recipe for model")
        return cls.from_dict({"model": model, **values, **changes})

    def choices(self) -> dict[str, Any]:
        """Return the fields that are not None, 0 or False."""
        return {k: v for k, v in self.to_dict().items() if v not in (None, 0)}

    @staticmethod
    def preset_models(preset: str) -> tuple[str, ...]:
        """Return the models that a preset has a recipe for."""
        return tuple(look_up(_RECIPES, preset, "preset"))


#: A model: its name, its recipe, or a function that builds it.
Model = str | Recipe | Callable


def choose(
    model: Model, preset: str = "default", front_end: FrontEnd | None = None, **changes: Any
) -> tuple[Recipe, FrontEnd, Callable | None]:
    """Return the recipe, the front end and the user's own builder of a model, if it is one."""
    builder = None
    if isinstance(model, Recipe):
        recipe = dataclasses.replace(model, **changes)
    elif callable(model):
        builder, name = model, getattr(model, "__name__", type(model).__name__)
        if name in MODELS:
            raise ValueError(f"{name!r} is the name of a model of genrecls; rename your builder")
        recipe = dataclasses.replace(Recipe.preset(preset, "cnn", **changes), model=name)
    else:
        recipe = Recipe.preset(preset, model, **changes)
    return recipe, front_end or _usual_front_end(preset, recipe), builder


def _usual_front_end(preset: str, recipe: Recipe) -> FrontEnd:
    # musicnn takes the log-mels that it was trained with.
    return FrontEnd.preset("musicnn" if recipe.model == "musicnn" else preset)


def run_name(preset: str, recipe: Recipe, front_end: FrontEnd | None = None) -> str:
    """Return the name of a run: model, preset, and what differs from the usual recipe.

    The usual recipe is that of the preset with a frozen backbone, since two CPU cores take hours
    to train a whole InceptionResNetV2. A run of another recipe, or with another front end, never
    replaces the usual run. A long name is cut and ends with its hash.
    """
    known = recipe.model if recipe.model in look_up(_RECIPES, preset, "preset") else "cnn"
    frozen = {"backbone": "frozen"} if known in BACKBONES else {}
    usual = Recipe.preset(preset, known, **frozen).to_dict() | {"model": recipe.model}
    changed = {k: v for k, v in recipe.to_dict().items() if v != usual[k]}
    if "weights" in changed:
        changed["weights"] = Path(changed["weights"] or "random").stem
    if "backbone" in changed:
        changed.pop("fine_tune_after", None)  # there are no stages
    if front_end:
        usual = _usual_front_end(preset, recipe).to_dict()
        changed |= {k: v for k, v in front_end.to_dict().items() if v != usual[k]}
    parts = [f"{recipe.model}-{preset}", *(f"{k}-{v}" for k, v in sorted(changed.items()))]
    name = "-".join(parts)
    if len(name.encode()) <= _MAX_NAME:
        return name
    # The names of files and folders, which may have 255 bytes, contain that of the run.
    start = name.encode()[: _MAX_NAME - 9].decode(errors="ignore")
    return f"{start}-{hash_json(name)[:8]}"


_ORIGINAL_RECIPE = dict(
    split_by="segment",
    optimizer="sgd",
    learning_rate=1e-3,
    warm_up=None,
    batch_size=10,
    class_weights=False,
    batch_norm_momentum=0.99,
)
_STAGES = dict(backbone="frozen", head="pool", learning_rate=1e-3, patience=10)
_LOGISTIC = dict(backbone="frozen", head="logistic")
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
        # Its ImageNet weights were trained on (level - 127) / 128, with levels from 0 to 255.
        "efficientnet_lite0": dict(
            _STAGES, fine_tune_after="block_10", weights="imagenet", input_range=(-127 / 128, 1.0)
        ),
        "efficientnet_lite0_frozen": dict(
            _LOGISTIC, weights="imagenet", input_range=(-127 / 128, 1.0)
        ),
        "musicnn": dict(_LOGISTIC, weights="msd"),
    },
}
