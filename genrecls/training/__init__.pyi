from .baselines import comparison_candidates as comparison_candidates
from .cross_validation import Candidate as Candidate
from .cross_validation import cross_validate as cross_validate
from .embedding import Embedding as Embedding
from .loop import live_plot as live_plot
from .run import train as train
