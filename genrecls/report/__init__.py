"""Reports, audit pages and model cards from saved tables, without audio or TensorFlow."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
