from .decode import load_audio as load_audio
from .decode import open_audio as open_audio
from .duplicates import find_near_duplicates as find_near_duplicates
from .player import play_audio as play_audio
from .quality import measure_track as measure_track
from .tags import read_tags as read_tags
