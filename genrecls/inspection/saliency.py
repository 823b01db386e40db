"""Maps of what a model responds to: its first convolution, and the parts of a segment that count.

A map may show the image alone, whatever the model has learnt; :func:`sanity_check` finds this.
"""

from typing import Any

import numpy as np
import pandas as pd
from scipy.special import logsumexp
from scipy.stats import spearmanr

from genrecls._utils.backend import gradient, keras
from genrecls.classifier import GenreClassifier
from genrecls.features.stored import Features

_BATCH = 4  # segments


def first_layer_activations(model: Any, segment: np.ndarray) -> np.ndarray:
    """Compute the output of the first convolution of a model.

    Parameters
    ----------
    model : keras.Model
        A functional or sequential model with a 2-D convolution; others raise a ValueError.
    segment : np.ndarray [shape=(height, width) or (height, width, channels)]
        One input of the model: a log-mel in dB, or an image if the model takes images.

    Returns
    -------
    np.ndarray [shape=(channels, height', width'), dtype=float32]
        One map per channel; row 0 is the lowest frequency, as in the input.

    Examples
    --------
    >>> import genrecls
    >>> import numpy as np
    >>> model = genrecls.build_compact_cnn((128, 323, 3), 2)
    >>> genrecls.first_layer_activations(model, np.zeros((128, 323, 3))).ndim
    3
    """
    maps = keras.Model(model.inputs[0], _first_convolution(model).output)
    # musicnn convolves a batch of the patches that follow each other in a segment.
    patches = maps.predict_on_batch(_to_input(model, segment)[None])
    return np.moveaxis(np.concatenate(patches, axis=1), -1, 0)


def _first_convolution(model: Any) -> Any:
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            return layer
    raise ValueError(f"model {model.name!r} has no 2-D convolution")


def _to_input(model: Any, segment: np.ndarray) -> np.ndarray:
    segment = np.asarray(segment, np.float32)
    segment = segment[..., None] if segment.ndim == 2 else segment
    shape = model.input_shape[1:]
    fits = all(n in (None, m) for n, m in zip(shape, segment.shape, strict=False))
    if len(shape) != segment.ndim or not fits:
        raise ValueError(f"the model takes segments of shape {shape}, not {segment.shape}")
    return segment


def grad_cam(model: Any, segment: np.ndarray, genre: int | None = None) -> np.ndarray:
    """Map where the last feature maps of a model support a genre (Grad-CAM).

    The channels of the last layer with height and width are added up, weighted by the mean
    gradient of the genre's logit; negative values become 0.

    Parameters
    ----------
    model : keras.Model
        A model that ends in a dense softmax layer; others raise a ValueError.
    segment : np.ndarray [shape=(height, width) or (height, width, channels)]
        See :func:`first_layer_activations`.
    genre : int >= 0, optional
        Index of the genre; by default the predicted one.

    Returns
    -------
    np.ndarray [shape=(height', width'), dtype=float32], >= 0
        Row 0 is the lowest frequency. The resolution is that of the last feature maps.

    References
    ----------
    Selvaraju et al., "Grad-CAM", ICCV 2017, DOI 10.1109/ICCV.2017.74.
    """
    x = _to_input(model, segment)[None]
    genre = _choose_genre(model, x, genre)
    layers = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    outputs = [layer.output for layer in layers if len(getattr(layer.output, "shape", ())) == 4]
    if not outputs:
        raise ValueError(f"model {model.name!r} has no layer with height and width")
    head = _head(model)
    lower, upper = keras.Model(model.inputs[0], outputs[-1]), keras.Model(outputs[-1], head.input)
    kernel = head.kernel[:, genre]

    def logit(maps: Any) -> Any:
        return keras.ops.sum(upper(maps, training=False)[0] * kernel)

    maps: Any = keras.ops.convert_to_numpy(lower(x, training=False))
    slopes: Any = gradient(logit, maps)
    weights = slopes.mean(axis=(1, 2), keepdims=True)
    return np.maximum((weights * maps).sum(axis=-1)[0], 0)


def occlusion(
    model: Any, segment: np.ndarray, genre: int | None = None, *, patches: tuple[int, int] = (8, 15)
) -> np.ndarray:
    """Map how much the evidence for a genre falls if a patch of the segment is covered.

    Parameters
    ----------
    model, segment, genre
        See :func:`grad_cam`. A patch is covered with the mean of the segment.
    patches : tuple of two ints > 0
        Number of patches along height and width; by default 1 s wide for a segment of 15 s.

    Returns
    -------
    np.ndarray [shape=patches, dtype=float32]
        Fall of the log odds of the genre, negative if they rise. Row 0 is the lowest frequency.

    References
    ----------
    Zeiler and Fergus, ECCV 2014, DOI 10.1007/978-3-319-10590-1_53.
    """
    x = _to_input(model, segment)
    genre = _choose_genre(model, x[None], genre)
    # The softmax of a very confident model is 1 for any patch, so that its logits are compared.
    head = _head(model)
    before_head = keras.Model(model.inputs[0], head.input)
    kernel, bias = (np.asarray(weights, float) for weights in head.get_weights())
    rows, columns = (
        np.linspace(0, size, n + 1).round().astype(int)
        for size, n in zip(x.shape, patches, strict=False)
    )
    falls = np.empty(patches, np.float32)
    for i in range(patches[0]):
        covered = np.repeat(x[None], patches[1] + 1, axis=0)
        for j in range(patches[1]):
            covered[j, rows[i] : rows[i + 1], columns[j] : columns[j + 1]] = x.mean()
        logits = before_head.predict_on_batch(covered) @ kernel + bias
        odds = logits[:, genre] - logsumexp(np.delete(logits, genre, axis=1), axis=1)
        falls[i] = odds[-1] - odds[:-1]
    return falls


def _choose_genre(model: Any, x: np.ndarray, genre: int | None) -> int:
    return int(model.predict_on_batch(x)[0].argmax()) if genre is None else genre


def _head(model: Any) -> Any:
    if not isinstance(model.layers[-1], keras.layers.Dense):
        raise ValueError(f"model {model.name!r} does not end in a dense layer")
    return model.layers[-1]


#: Name and function of every map.
SALIENCY_METHODS = {"Grad-CAM": grad_cam, "occlusion": occlusion}


def _randomize_weights(model: Any, random_seed: int) -> Any:
    """Copy a model, and shuffle the values of each weight of the copy."""
    copy, rng = keras.models.clone_model(model), np.random.default_rng(random_seed)
    copy.set_weights([rng.permuted(w.ravel()).reshape(w.shape) for w in model.get_weights()])
    return copy


def sanity_check(model: Any, segment: np.ndarray) -> pd.DataFrame:
    """Check that the maps of a model depend on its weights, not only on the image.

    Parameters
    ----------
    model, segment
        See :func:`grad_cam`.

    Returns
    -------
    pd.DataFrame
        One row per ``map``: the Spearman ``rank correlation`` of the maps of the predicted genre
        before and after the weights are shuffled; near 1 or -1, the map shows the image and not
        what was learnt. NaN if a map is constant.

    References
    ----------
    Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018, arXiv 1810.03292.
    """
    genre = _choose_genre(model, _to_input(model, segment)[None], None)
    randomized = _randomize_weights(model, 0)
    rows = []
    for name, method in SALIENCY_METHODS.items():
        a, b = (method(m, segment, genre).ravel() for m in (model, randomized))
        constant = np.ptp(a) == 0 or np.ptp(b) == 0
        rows.append((name, np.nan if constant else float(np.asarray(spearmanr(a, b))[0])))
    return pd.DataFrame(rows, columns=["map", "rank correlation"])


def channel_segments(run: GenreClassifier, features: Features, *, n: int = 3) -> pd.DataFrame:
    """Find the segments that activate each channel of the first convolution most and least.

    Parameters
    ----------
    run : GenreClassifier
        Saved run.
    features : Features
        Result of ``genrecls.prepare(corpus, run.front_end)``.
    n : int > 0
        Number of strongest and of weakest segments.

    Returns
    -------
    pd.DataFrame
        ``channel`` (from 1), ``rank`` (1 is the strongest, -1 the weakest), ``activation`` (mean
        over the map) and the columns of the segments table.
    """
    if features.front_end.log_mel_uid != run.front_end.log_mel_uid:
        raise ValueError("the features have another front end; prepare them with run.front_end")
    segments = features.segments.drop(columns=["channel", "rank", "activation"], errors="ignore")
    model: Any = run.model
    means = keras.layers.GlobalAveragePooling2D()(_first_convolution(model).output)
    channels = keras.Model(model.inputs[0], means)
    starts = range(0, len(segments), _BATCH)
    batches = (features.log_mels(segments.iloc[start : start + _BATCH]) for start in starts)
    activations = np.concatenate([channels.predict_on_batch(batch) for batch in batches])
    activations = activations.reshape(len(segments), -1, activations.shape[-1]).mean(axis=1)
    n = min(n, len(segments) // 2)
    ranks = np.array([*range(1, n + 1), *range(-n, 0)])
    parts = []
    for channel, activation in enumerate(activations.T, start=1):
        chosen = np.argsort(-activation, kind="stable")[ranks - (ranks > 0)]
        table = pd.DataFrame({"rank": ranks, "activation": activation[chosen]})
        table.insert(0, "channel", channel)
        parts.append(table.join(segments.iloc[chosen].reset_index(drop=True)))
    return pd.concat(parts, ignore_index=True)
