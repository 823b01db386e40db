"""Candidates of a comparison: the networks, and the simple baselines that they should beat."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import librosa
import numpy as np
import pandas as pd
from scipy.special import softmax
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from genrecls.config import MODELS, FrontEnd, Recipe, choose, run_name
from genrecls.config.recipe import Model
from genrecls.corpus.audit import audit
from genrecls.corpus.confounds import one_number_classifier
from genrecls.corpus.tracks import Corpus
from genrecls.errors import CorpusError
from genrecls.features.prepare import Features
from genrecls.models.building import builder_uid
from genrecls.models.weights import recipe_settings

N_MFCC = 20

# Preset, model and changes of the networks that are compared.
_NETWORKS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("original", "cnn", {}),
    ("default", "cnn", {}),
    ("default", "compact_cnn", {}),
    ("default", "inception_resnet_v2", {}),
    ("default", "efficientnet_lite0", {}),
    ("default", "efficientnet_lite0", {"weights": None}),
)


@dataclass(frozen=True)
class Candidate:
    """A model that can be cross-validated.

    Attributes
    ----------
    name : str
        Name in every table, and name of the folder.
    front_end : FrontEnd
        Settings of the features that the model gets.
    fit_predict : callable
        ``(features, segments, random_seed) -> probabilities`` [shape=(segments, genres)]. It is
        fitted on the segments whose ``split`` is ``'train'`` and predicts all others, in their
        order.
    settings : dict
        Everything beside the front end that decides the outcome, of values that JSON can hold.
    """

    name: str
    front_end: FrontEnd
    fit_predict: Callable[[Features, pd.DataFrame, int], np.ndarray]
    settings: dict[str, Any]


def network_candidate(
    name: str,
    recipe: Recipe,
    front_end: FrontEnd,
    builder: Callable | None = None,
    *,
    n_genres: int = 2,
) -> Candidate:
    """Make a candidate of a network.

    Parameters
    ----------
    name : str
        Name of the candidate.
    recipe : Recipe
        The model and how it is trained. The cross-validation replaces its random seed and the way
        to hold out a validation.
    front_end : FrontEnd
        Settings of the features.
    builder : callable, optional
        The user's own builder, ``(input_shape, n_classes) -> keras.Model``.
    n_genres : int >= 2
        Number of genres for which the user's own builder is identified.

    Returns
    -------
    Candidate
    """

    def fit_predict(features: Features, segments: pd.DataFrame, random_seed: int) -> np.ndarray:
        # TensorFlow takes seconds to load, and the other candidates do not need it.
        from genrecls.training.stages import fit

        seeded = dataclasses.replace(recipe, random_seed=random_seed)
        return fit(features, segments, seeded, builder=builder, progress=False).probabilities

    settings = recipe_settings(recipe)
    if builder:
        settings["builder"] = builder_uid(builder, front_end, n_genres)
    return Candidate(name, front_end, fit_predict, settings)


def majority(front_end: FrontEnd) -> Candidate:
    """Make a candidate that predicts the most frequent genre of the training segments.

    Parameters
    ----------
    front_end : FrontEnd
        Decides which segments there are to predict.

    Returns
    -------
    Candidate
        Its probabilities are the shares of the genres.
    """

    def fit_predict(features: Features, segments: pd.DataFrame, _: int) -> np.ndarray:
        train = segments["split"] == "train"
        shares = segments.loc[train, "genre"].value_counts(normalize=True).sort_index()
        return np.tile(shares.to_numpy(), (np.count_nonzero(~train), 1))

    return Candidate("majority", front_end, fit_predict, {"model": "majority"})


def one_number(name: str, values: pd.Series, front_end: FrontEnd) -> Candidate:
    """Make a candidate that gets one number per track and no sound.

    Parameters
    ----------
    name : str
        Name of the number, such as ``'duration_s'``.
    values : pd.Series
        The number, or a category, for every ``track_id``; see :func:`genrecls.audit`.
    front_end : FrontEnd
        Decides which segments there are to predict.

    Returns
    -------
    Candidate
    """

    def fit_predict(features: Features, segments: pd.DataFrame, _: int) -> np.ndarray:
        x = values.reindex(segments["track_id"]).to_frame().reset_index(drop=True)
        train = (segments["split"] == "train").to_numpy()
        model = one_number_classifier().fit(x[train], segments.loc[train, "genre"])
        return model.predict_proba(x[~train])

    settings = {"model": "one number", "number": name, "values": values.astype(str).to_dict()}
    return Candidate(f"{name}-alone", front_end, fit_predict, settings)


def mfcc_svm(front_end: FrontEnd) -> Candidate:
    """Make a candidate of a support vector machine on statistics of MFCCs.

    Parameters
    ----------
    front_end : FrontEnd
        Settings of the log-mels that the MFCCs are computed from.

    Returns
    -------
    Candidate
        Its probabilities are the softmax of the margins; the temperature of the cross-validation
        calibrates them.

    References
    ----------
    G. Tzanetakis, P. Cook, "Musical genre classification of audio signals", IEEE Transactions on
    Speech and Audio Processing 10(5), 2002, doi:10.1109/TSA.2002.800560.
    """

    def fit_predict(features: Features, segments: pd.DataFrame, _: int) -> np.ndarray:
        x = mfcc_statistics(features.log_mels(segments)[..., 0])
        train = (segments["split"] == "train").to_numpy()
        svm = SVC(C=10.0, class_weight="balanced", decision_function_shape="ovr")
        model = make_pipeline(StandardScaler(), svm).fit(x[train], segments["genre"][train])
        margins = model.decision_function(x[~train])
        if margins.ndim == 1:
            margins = np.stack([-margins, margins], axis=1)
        return softmax(margins, axis=1)

    return Candidate("mfcc_svm", front_end, fit_predict, {"model": "mfcc_svm", "n_mfcc": N_MFCC})


def mfcc_statistics(log_mels: np.ndarray) -> np.ndarray:
    """Compute mean and deviation of the MFCCs, and deviation of their deltas.

    Parameters
    ----------
    log_mels : np.ndarray [shape=(segments, n_mels, frames)] (in dB)
        Log-mel spectrograms.

    Returns
    -------
    np.ndarray [shape=(segments, 3 * N_MFCC)]
        Statistics over the frames of each segment.
    """
    mfcc = librosa.feature.mfcc(S=log_mels, n_mfcc=N_MFCC)
    delta = librosa.feature.delta(mfcc)
    return np.concatenate([mfcc.mean(-1), mfcc.std(-1), delta.std(-1)], axis=-1)


def comparison_candidates(
    corpus: Corpus, *, jobs: int | None = None, progress: bool = True
) -> dict[str, Candidate]:
    """Make the candidates that ``genrecls crossval`` compares, the simplest first.

    Parameters
    ----------
    corpus : Corpus
        Its audit finds the number that separates the genres best. That number is chosen on the
        tracks that it is tested on, which favours it.
    jobs : int > 0, optional
        Number of processes for the audit.
    progress : bool
        Show a progress bar.

    Returns
    -------
    dict of str to Candidate
        The candidates by name. There is no number if the audit finds no confound.
    """
    front_end = FrontEnd.preset("default")
    candidates = [majority(front_end)]
    if number := _best_number(corpus, front_end, jobs=jobs, progress=progress):
        candidates.append(number)
    candidates.append(mfcc_svm(front_end))
    for preset, model, changes in _NETWORKS:
        recipe = Recipe.preset(preset, model, **changes)
        name = run_name(preset, recipe)
        candidates.append(network_candidate(name, recipe, FrontEnd.preset(preset)))
    return {candidate.name: candidate for candidate in candidates}


def find_candidate(
    model: Model | Candidate,
    corpus: Corpus,
    *,
    preset: str = "default",
    jobs: int | None = None,
    progress: bool = True,
) -> Candidate:
    """Find the candidate that a user names.

    Parameters
    ----------
    model : str, Candidate, Recipe or callable
        See :func:`genrecls.cross_validate`.
    corpus : Corpus
        The corpus of the comparison.
    preset : {'original', 'default'}
        Source of the front end and of the recipe, unless the name contains a preset.
    jobs : int > 0, optional
        Number of processes for the audit, which only ``'one_number'`` needs.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Candidate

    Raises
    ------
    ValueError
        If there is no candidate of that name.
    CorpusError
        If the audit finds no number for ``'one_number'``.
    """
    if isinstance(model, Candidate):
        return model
    changes: dict[str, Any] = {}
    if isinstance(model, str) and model not in MODELS:
        front_end = FrontEnd.preset(preset)
        if model == "majority":
            return majority(front_end)
        if model == "mfcc_svm":
            return mfcc_svm(front_end)
        if model == "one_number":
            number = _best_number(corpus, front_end, jobs=jobs, progress=progress)
            if number is None:
                raise CorpusError(f"the audit of {corpus.name!r} finds no number for 'one_number'")
            return number
        named = {run_name(p, Recipe.preset(p, m, **c)): (p, m, c) for p, m, c in _NETWORKS}
        if model not in named:
            choices = ["majority", "one_number", "mfcc_svm", *MODELS, *named]
            raise ValueError(f"there is no model {model!r}; choose from {', '.join(choices)}")
        preset, model, changes = named[model]
    recipe, front_end, builder = choose(model, preset, **changes)
    name, n_genres = run_name(preset, recipe), len(corpus.genres)
    return network_candidate(name, recipe, front_end, builder, n_genres=n_genres)


def _best_number(
    corpus: Corpus, front_end: FrontEnd, *, jobs: int | None, progress: bool
) -> Candidate | None:
    """Make a candidate of the number that separates the genres best in the audit."""
    found = audit(corpus, jobs=jobs, progress=progress)
    if found.confounds.empty:
        return None
    name = found.confounds["confound"].iloc[0]
    track_id = corpus.tracks.loc[found.tracks.index, "track_id"]
    return one_number(name, found.tracks[name].set_axis(track_id), front_end)
