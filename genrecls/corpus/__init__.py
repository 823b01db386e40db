"""Folders or tables of music files to tracks, groups, splits and an audit."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
