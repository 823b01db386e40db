"""The choices of an experiment as frozen data: front end, recipe and their presets.

The preset ``original`` is what the original lab did, with its faults; ``default`` corrects them.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
