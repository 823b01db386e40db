"""Music genre classification from mel-spectrogram images: sound is a picture too.

The names below are all that most users need; each is imported when it is first used, so that
``import genrecls`` loads neither TensorFlow nor torch.
"""

import lazy_loader as _lazy

__version__ = "0.2.0"

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
__all__ += ["__version__"]
