from .audit import Audit as Audit
from .confounds import confound_table as confound_table
from .folders import find_audio_files as find_audio_files
from .folders import summarize_left_out as summarize_left_out
from .splits import assign_folds as assign_folds
from .splits import assign_splits as assign_splits
from .splits import check_no_leak as check_no_leak
from .tracks import Corpus as Corpus
