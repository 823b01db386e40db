from .decode import load_audio as load_audio
from .decode import open_audio as open_audio
from .player import play_audio as play_audio
