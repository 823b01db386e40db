from .perturbations import TRANSFORMATIONS as TRANSFORMATIONS
from .robustness import measure_robustness as measure_robustness
from .saliency import SALIENCY_METHODS as SALIENCY_METHODS
from .saliency import channel_segments as channel_segments
from .saliency import first_layer_activations as first_layer_activations
from .saliency import grad_cam as grad_cam
from .saliency import occlusion as occlusion
from .saliency import sanity_check as sanity_check
