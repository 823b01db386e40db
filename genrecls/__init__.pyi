from .audio.decode import load_audio as load_audio
from .audio.resample import resample as resample
from .classifier import GenreClassifier as GenreClassifier
from .config import FrontEnd as FrontEnd
from .config import Recipe as Recipe
from .corpus.splits import assign_splits as assign_splits
from .corpus.tracks import Corpus as Corpus
from .demo import make_demo as make_demo
from .errors import AudioError as AudioError
from .errors import AudioWarning as AudioWarning
from .evaluation.tables import comparison_table as comparison_table
from .evaluation.tables import split_table as split_table
from .features.image import to_image as to_image
from .features.prepare import prepare as prepare
from .features.segments import split_segments as split_segments
from .features.spectrogram import mel_spectrogram as mel_spectrogram
from .inspection.saliency import first_layer_activations as first_layer_activations
from .models.cnn import build_cnn as build_cnn
from .models.compact_cnn import build_compact_cnn as build_compact_cnn
from .models.efficientnet_lite0 import build_efficientnet_lite0 as build_efficientnet_lite0
from .models.inception_resnet_v2 import build_inception_resnet_v2 as build_inception_resnet_v2
from .training.callbacks import live_plot as live_plot
from .training.cross_validation import cross_validate as cross_validate
from .training.run import train as train

__version__: str
