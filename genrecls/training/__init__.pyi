from .baselines import comparison_candidates as comparison_candidates
from .callbacks import live_plot as live_plot
from .cross_validation import Candidate as Candidate
from .cross_validation import cross_validate as cross_validate
from .run import train as train
