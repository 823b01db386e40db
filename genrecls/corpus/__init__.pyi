from .audit import Audit as Audit
from .changes import describe_changes as describe_changes
from .croissant import write_croissant as write_croissant
from .folders import find_audio_files as find_audio_files
from .folders import summarize_left_out as summarize_left_out
from .splits import assign_folds as assign_folds
from .splits import assign_splits as assign_splits
from .tracks import Corpus as Corpus
