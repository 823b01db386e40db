"""What the network sees: its first convolution, and which part of a segment its answer rests on.

A map that looks right may be a image of the input and no more. :func:`sanity_check` tells: the
map of a net must change when its weights are randomised.
"""

from __future__ import annotations

import os

import numpy as np
import pandas as pd

from genrecls.classifier import GenreClassifier
from genrecls.features.extraction import track_log_mels
from genrecls.features.image import to_image
from genrecls.features.prepare import Features


def first_layer_activations(model, segment: np.ndarray) -> np.ndarray:
    """Output of the first convolution of a model, whichever architecture it is.

    Parameters
    ----------
    model : keras.Model
        Of one of the builders, or any functional or sequential model with a 2-D convolution.
    segment : np.ndarray [shape=(height, width) or (height, width, channels)]
        One input of the model: a log-mel in dB, or a image if the model takes images.

    Returns
    -------
    np.ndarray [shape=(channels, height', width'), dtype=float32]
        One map per channel; row 0 is the lowest frequency, as in the input.

    Raises
    ------
    ValueError
        If the model has no 2-D convolution, or the segment is not of its input shape.

    Examples
    --------
    >>> import genrecls
    >>> import numpy as np
    >>> net = genrecls.build_compact_cnn((128, 323, 3), 2)
    >>> genrecls.first_layer_activations(net, np.zeros((128, 323, 3))).ndim
    3
    """
    from genrecls._utils.backend import keras

    upto = keras.Model(model.inputs[0], _first_convolution(model).output)
    return np.moveaxis(upto.predict_on_batch(_input_of(model, segment)[None])[0], -1, 0)


def _first_convolution(model):
    from genrecls._utils.backend import keras

    first = next((x for x in model.layers if isinstance(x, keras.layers.Conv2D)), None)
    if first is None:
        raise ValueError(f"model {model.name!r} has no 2-D convolution")
    return first


def _input_of(model, segment: np.ndarray) -> np.ndarray:
    """A segment as a model takes it [shape=(height, width, channels)]."""
    segment = np.asarray(segment, np.float32)
    segment = segment[..., None] if segment.ndim == 2 else segment
    wanted = model.input_shape[1:]
    if len(wanted) != segment.ndim or any(
        size not in (None, n) for size, n in zip(wanted, segment.shape, strict=True)
    ):
        raise ValueError(f"the model takes segments of shape {wanted}, not {segment.shape}")
    return segment


def track_activations(
    run: GenreClassifier, path: str | os.PathLike, *, segment: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Image of a segment of a file, and what the first convolution of a saved run makes of it.

    Parameters
    ----------
    run : GenreClassifier
    path : str or path-like
    segment : int
        Position of the segment in the track, from 0.

    Returns
    -------
    image : np.ndarray [shape=(n_mels, frames, 3)], in [0, 1]
    maps : np.ndarray [shape=(channels, height', width')]

    Raises
    ------
    AudioError
        If the file cannot be used.
    """
    log_mels, _ = track_log_mels(path, run.front_end)
    levels = log_mels[segment]
    return to_image(levels, run.front_end), first_layer_activations(run.model, levels)


def grad_cam(model, segment: np.ndarray, genre: int | None = None) -> np.ndarray:
    """Where the last maps of a net speak for a genre: Grad-CAM (Selvaraju et al. 2017).

    The sum of the channels of the last layer that still has height and width, each weighed by the
    mean slope of the genre's logit along it; what is negative is 0.

    Parameters
    ----------
    model : keras.Model
        Of one of the builders, or any that ends in a dense softmax layer.
    segment : np.ndarray [shape=(height, width) or (height, width, channels)]
        One input of the model: a log-mel in dB, or a image if the model takes images.
    genre : int >= 0, optional
        Number of the genre; by default the one that the model predicts.

    Returns
    -------
    np.ndarray [shape=(height', width'), dtype=float32], >= 0
        Row 0 is the lowest frequency, as in the input; coarse, as the last maps are.

    Raises
    ------
    ValueError
        If the model has no such layers, or the segment is not of its input shape.
    """
    from genrecls._utils.backend import gradient, keras

    segment = _input_of(model, segment)[None]
    genre = _genre(model, segment, genre)
    layers = [x for x in model.layers if not isinstance(x, keras.layers.InputLayer)]
    maps = [x.output for x in layers if len(getattr(x.output, "shape", ())) == 4]
    if not maps:
        raise ValueError(f"model {model.name!r} has no maps")
    head = _head(model)
    below, above = keras.Model(model.inputs[0], maps[-1]), keras.Model(maps[-1], head.input)
    kernel, bias = head.kernel[:, genre], head.bias[genre]

    def logit(x):
        return keras.ops.sum(above(x, training=False)[0] * kernel) + bias

    last = keras.ops.convert_to_numpy(below(segment, training=False))
    weights = gradient(logit, last).mean(axis=(1, 2), keepdims=True)
    return np.maximum((weights * last).sum(axis=-1)[0], 0)


def occlusion(
    model, segment: np.ndarray, genre: int | None = None, *, patches: tuple[int, int] = (8, 15)
) -> np.ndarray:
    """How much less a net is sure of a genre when a part of the segment is covered (Zeiler 2014).

    Parameters
    ----------
    model : keras.Model
    segment : np.ndarray
        See :func:`grad_cam`. The patch is covered with the mean of the segment.
    genre : int >= 0, optional
        Number of the genre; by default the one that the model predicts.
    patches : tuple of two ints > 0
        Into how many patches height and width are divided; by default seconds, for 15 s.

    Returns
    -------
    np.ndarray [shape=patches, dtype=float32]
        By how much the logarithm of the odds of the genre falls where the patch is covered; below
        0 where it rises. Row 0 is the lowest frequency.

    Raises
    ------
    ValueError
        If the model does not end in a dense layer, or the segment is not of its input shape.
    """
    from scipy.special import logsumexp

    from genrecls._utils.backend import keras

    segment = _input_of(model, segment)
    genre = _genre(model, segment[None], genre)
    # The probabilities of a net that is very sure are 1 whatever is covered: what is before them?
    head = _head(model)
    before_head = keras.Model(model.inputs[0], head.input)
    kernel, bias = (np.asarray(w, float) for w in head.get_weights())
    rows, columns = (
        np.linspace(0, size, n + 1).round().astype(int)
        for size, n in zip(segment.shape, patches, strict=False)
    )
    falls = np.empty(patches, np.float32)
    for i in range(patches[0]):
        covered = np.repeat(segment[None], patches[1] + 1, axis=0)
        for j in range(patches[1]):
            covered[j, rows[i] : rows[i + 1], columns[j] : columns[j + 1]] = segment.mean()
        logits = before_head.predict_on_batch(covered) @ kernel + bias
        odds = logits[:, genre] - logsumexp(np.delete(logits, genre, axis=1), axis=1)
        falls[i] = odds[-1] - odds[:-1]
    return falls


def _genre(model, segments: np.ndarray, genre: int | None) -> int:
    return int(model.predict_on_batch(segments)[0].argmax()) if genre is None else genre


def _head(model):
    """The dense layer that makes the probabilities."""
    from genrecls._utils.backend import keras

    if not isinstance(model.layers[-1], keras.layers.Dense):
        raise ValueError(f"model {model.name!r} has no dense layer at its end")
    return model.layers[-1]


#: The maps of what an answer rests on, by name.
SALIENCY_METHODS = {"Grad-CAM": grad_cam, "occlusion": occlusion}


def randomize_weights(model, *, random_seed: int = 0):
    """A copy of a model in which the values of every weight have been shuffled."""
    from genrecls._utils.backend import keras

    copy, rng = keras.models.clone_model(model), np.random.default_rng(random_seed)
    copy.set_weights([rng.permuted(w.ravel()).reshape(w.shape) for w in model.get_weights()])
    return copy


def sanity_check(model, segment: np.ndarray, *, random_seed: int = 0) -> pd.DataFrame:
    """Whether the maps of a net are of its weights, or of the image alone (Adebayo et al. 2018).

    Parameters
    ----------
    model : keras.Model
    segment : np.ndarray
        See :func:`grad_cam`.
    random_seed : int
        Of the random weights.

    Returns
    -------
    pd.DataFrame
        One row a map: ``map``, ``rank correlation`` (Spearman's) of the map of the genre that the
        model predicts with the map of the same genre after the weights were randomised. Near 1 or
        -1: the map is of the image, not of what was learnt. NaN where a map is flat.
    """
    from scipy.stats import spearmanr

    genre = _genre(model, _input_of(model, segment)[None], None)
    other = randomize_weights(model, random_seed=random_seed)
    rows = []
    for name, map_of in SALIENCY_METHODS.items():
        ours, theirs = (map_of(m, segment, genre).ravel() for m in (model, other))
        flat = np.ptp(ours) == 0 or np.ptp(theirs) == 0
        rows.append((name, np.nan if flat else float(spearmanr(ours, theirs).statistic)))
    return pd.DataFrame(rows, columns=["map", "rank correlation"])


def channel_segments(run: GenreClassifier, features: Features, *, n: int = 3) -> pd.DataFrame:
    """Segments of a corpus to which every channel of the first convolution answers most and least.

    Parameters
    ----------
    run : GenreClassifier
    features : Features
        Of the front end of the run: ``genrecls.prepare(corpus, run.front_end)``.
    n : int > 0
        Segments of either kind.

    Returns
    -------
    pd.DataFrame
        One row a channel and segment, the strongest first: ``channel`` (from 1), ``rank`` (1 is the
        strongest, -1 the weakest), ``activation`` (mean of the channel's map over the segment) and
        the columns of the segments table. Silent segments are left out where the front end does so.

    Raises
    ------
    ValueError
        If the features are of another front end.
    """
    from genrecls._utils.backend import keras

    if features.front_end.log_mel_uid != run.front_end.log_mel_uid:
        raise ValueError("these features are of another front end than that of the run")
    segments = features.segments
    model, first = run.model, _first_convolution(run.model)
    mean = keras.layers.GlobalAveragePooling2D()(first.output)
    channels = keras.Model(model.inputs[0], mean)
    answers = np.concatenate(
        [
            channels.predict_on_batch(features.log_mels(segments.iloc[i : i + 32]))
            for i in range(0, len(segments), 32)
        ]
    )
    n = min(n, len(segments) // 2)
    ranks = [*range(1, n + 1), *range(-n, 0)]
    parts = []
    for channel, answer in enumerate(answers.T, start=1):
        order = np.argsort(-answer, kind="stable")
        chosen = [order[rank - 1 if rank > 0 else rank] for rank in ranks]
        found = {"channel": channel, "rank": ranks, "activation": answer[chosen]}
        parts.append(pd.DataFrame(found).join(segments.iloc[chosen].reset_index(drop=True)))
    return pd.concat(parts, ignore_index=True)
