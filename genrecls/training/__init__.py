"""Training: from a corpus and a recipe to a saved run; cross-validation and baselines."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
