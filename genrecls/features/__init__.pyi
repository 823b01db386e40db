from .extraction import track_log_mels as track_log_mels
from .image import to_image as to_image
from .segments import split_segments as split_segments
from .segments import step_samples as step_samples
from .spectrogram import hz_to_mel as hz_to_mel
from .spectrogram import mel_frequencies as mel_frequencies
from .spectrogram import mel_power as mel_power
from .spectrogram import mel_spectrogram as mel_spectrogram
