"""Candidates of a comparison: the networks, and the simple baselines that they should beat."""

import dataclasses
from collections.abc import Callable
from typing import Any

import librosa
import numpy as np
import pandas as pd
from scipy.special import softmax
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from genrecls.config import FrontEnd, Recipe, choose, run_name
from genrecls.corpus.audit import audit
from genrecls.corpus.confounds import one_number_classifier
from genrecls.corpus.tracks import Corpus
from genrecls.features.stored import Features
from genrecls.models.building import builder_uid
from genrecls.models.weights import recipe_settings
from genrecls.training.data import balanced_weights
from genrecls.training.stages import fit

_N_MFCC = 20
_BATCH = 256  # segments whose log-mels are in memory, 42 MB


@dataclasses.dataclass(frozen=True)
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
        Everything else that decides the outcome, of values that JSON can hold.
    """

    name: str
    front_end: FrontEnd
    fit_predict: Callable[[Features, pd.DataFrame, int], np.ndarray]
    settings: dict[str, Any]


def network_candidate(
    name: str, recipe: Recipe, front_end: FrontEnd, builder: Callable | None = None
) -> Candidate:
    """Make a candidate of a network, whose recipe gets another random seed in every repeat."""

    def fit_predict(features: Features, segments: pd.DataFrame, random_seed: int) -> np.ndarray:
        seeded = dataclasses.replace(recipe, random_seed=random_seed)
        return fit(features, segments, seeded, builder=builder, progress=False).probabilities

    settings = recipe_settings(recipe)
    if builder:
        # The corpus is not known here; two genres are enough to identify the architecture.
        settings["builder"] = builder_uid(builder, front_end, 2)
    return Candidate(name, front_end, fit_predict, settings)


def majority(front_end: FrontEnd) -> Candidate:
    """Make a candidate that predicts the shares of the genres in the training segments."""

    def fit_predict(features: Features, segments: pd.DataFrame, _: int) -> np.ndarray:
        train = segments["split"] == "train"
        sounding = segments[train].groupby("genre")["sounding"].sum()
        return np.tile((sounding / sounding.sum()).to_numpy(), (int((~train).sum()), 1))

    return Candidate("majority", front_end, fit_predict, {"model": "majority"})


def one_number(name: str, values: pd.Series, front_end: FrontEnd) -> Candidate:
    """Make a candidate that gets one number (or category) per track and no sound."""

    def fit_predict(features: Features, segments: pd.DataFrame, _: int) -> np.ndarray:
        x = values.reindex(segments["track_id"]).to_frame().reset_index(drop=True)
        train = (segments["split"] == "train").to_numpy()
        weights = {"randomforestclassifier__sample_weight": segments.loc[train, "sounding"]}
        model = one_number_classifier().fit(x[train], segments.loc[train, "genre"], **weights)
        return model.predict_proba(x[~train])

    settings = {"model": "one number", "number": name, "values": values.astype(str).to_dict()}
    return Candidate(f"{name}-alone", front_end, fit_predict, settings)


def best_number(
    corpus: Corpus, front_end: FrontEnd, *, jobs: int | None = None, progress: bool = True
) -> Candidate:
    """Make a candidate of the number that separates the genres best in the audit.

    It is chosen on the tracks that it will be tested on, which favours it.
    """
    found = audit(corpus, jobs=jobs, progress=progress)
    name = str(found.confounds["confound"].iloc[0])
    track_id = corpus.tracks.loc[found.tracks.index, "track_id"]
    return one_number(name, found.tracks[name].set_axis(track_id), front_end)


def mfcc_svm(front_end: FrontEnd) -> Candidate:
    """Make a candidate of a support vector machine on statistics of MFCCs.

    After Tzanetakis and Cook, IEEE Transactions on Speech and Audio Processing 10(5), 2002,
    DOI 10.1109/TSA.2002.800560.
    """

    def fit_predict(features: Features, segments: pd.DataFrame, _: int) -> np.ndarray:
        batches = (segments.iloc[i : i + _BATCH] for i in range(0, len(segments), _BATCH))
        x = np.concatenate([_mfcc_statistics(features.log_mels(batch)) for batch in batches])
        train = (segments["split"] == "train").to_numpy()
        model = make_pipeline(StandardScaler(), SVC(C=10.0, decision_function_shape="ovr"))
        weights = {
            "standardscaler__sample_weight": segments.loc[train, "sounding"],
            "svc__sample_weight": balanced_weights(segments[train]),
        }
        model.fit(x[train], segments["genre"][train], **weights)
        margins = model.decision_function(x[~train])
        if margins.ndim == 1:
            margins = np.stack([-margins, margins], axis=1)
        # The temperature of the cross-validation calibrates these probabilities.
        return softmax(margins, axis=1)

    return Candidate("mfcc_svm", front_end, fit_predict, {"model": "mfcc_svm", "n_mfcc": _N_MFCC})


def _mfcc_statistics(log_mels: np.ndarray) -> np.ndarray:
    """Compute means and standard deviations of each segment [shape=(segments, 3 * _N_MFCC)]."""
    mfcc = librosa.feature.mfcc(S=log_mels[..., 0], n_mfcc=_N_MFCC)
    delta = librosa.feature.delta(mfcc)
    return np.concatenate([mfcc.mean(-1), mfcc.std(-1), delta.std(-1)], axis=-1)


def named_candidates(front_end: FrontEnd) -> dict[str, Candidate]:
    """Make the candidates that need no audit of the corpus, the simplest first."""
    candidates = [majority(front_end), mfcc_svm(front_end)]
    for preset, model, changes in (
        ("original", "cnn", {}),
        ("default", "cnn", {}),
        ("default", "compact_cnn", {}),
        ("default", "inception_resnet_v2", {}),
        ("default", "efficientnet_lite0", {}),
        ("default", "efficientnet_lite0", {"weights": None}),
        ("default", "efficientnet_lite0_frozen", {}),
        ("default", "musicnn", {}),
        ("default", "musicnn", {"weights": "mtt"}),
        ("default", "musicnn", {"weights": None}),
    ):
        recipe, front_end, _ = choose(Recipe.preset(preset, model, **changes), preset)
        name = run_name(preset, recipe)
        candidates.append(network_candidate(name, recipe, front_end))
    return {candidate.name: candidate for candidate in candidates}


def comparison_candidates(
    corpus: Corpus, *, jobs: int | None = None, progress: bool = True
) -> dict[str, Candidate]:
    """Make all candidates that ``genrecls crossval`` compares, by name."""
    front_end = FrontEnd.preset("default")
    number = best_number(corpus, front_end, jobs=jobs, progress=progress)
    return {number.name: number} | named_candidates(front_end)
