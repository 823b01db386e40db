"""The choices of an experiment as frozen data: front end, recipe and their presets.

Every choice has two presets. ``original`` is what the original lab did, with its faults;
``default`` corrects them.
"""

from genrecls.config.base import hash_json
from genrecls.config.front_end import FrontEnd
from genrecls.config.recipe import (
    BACKBONES,
    MIN_CONFIDENCE,
    MODELS,
    PRESETS,
    SPLIT_BY,
    Recipe,
    choose,
    run_name,
)

__all__ = [
    "BACKBONES",
    "MIN_CONFIDENCE",
    "MODELS",
    "PRESETS",
    "SPLIT_BY",
    "FrontEnd",
    "Recipe",
    "choose",
    "hash_json",
    "run_name",
]
