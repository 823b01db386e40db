"""Everything from files to report, for ten genres."""

from conftest import write_corpus

from genrecls import Corpus, FrontEnd, GenreClassifier, train
from genrecls.corpus.audit import audit
from genrecls.evaluation.runs import read_runs
from genrecls.features.prepare import prepare
from genrecls.inspection import robustness
from genrecls.report.write import write_audit, write_report
from genrecls.training.baselines import one_number
from genrecls.training.cross_validation import cross_validate


def test_package_works_from_files_to_report_for_ten_genres(tmp_path, home, monkeypatch):
    genres = [f"genre {letter}" for letter in "abcdefghij"]
    corpus = Corpus.read(write_corpus(tmp_path / "many", genres=genres, artists=2, seconds=16.0))
    front_end = FrontEnd.preset("default")

    found = audit(corpus, jobs=1, progress=False)
    assert found.genres["genre"].tolist() == genres
    assert found.confounds["auc alone"].between(0, 1).all()
    write_audit(found, home / "reports" / "many")

    prepare(corpus, front_end, jobs=1, progress=False)
    options = {"epochs": 1, "jobs": 1, "progress": False}
    run = train(corpus, "compact_cnn", name="compact_cnn-default", **options)
    assert run.model.output_shape == (None, 10)

    values = found.tracks["duration_s"].set_axis(corpus.tracks.loc[found.tracks.index, "track_id"])
    models = ["majority", one_number("duration_s", values, front_end), "mfcc_svm"]
    options = {"folds": 2, "repeats": 1, "jobs": 1, "progress": False}
    tested = cross_validate(corpus, models, **options)
    assert (tested.groupby("run").size() == len(run.segments)).all()
    cross_validate(corpus, "mfcc_svm", split_by="segment", **options)

    some = {name: robustness.TRANSFORMATIONS[name] for name in ("mono", "gain −6 dB")}
    monkeypatch.setattr(robustness, "TRANSFORMATIONS", some)
    robustness.measure_robustness(
        [GenreClassifier.load(run.folder) for run in read_runs("many")],
        corpus,
        jobs=1,
        progress=False,
    )

    text = write_report("many").with_suffix(".md").read_text(encoding="utf-8")
    for heading in ("Cross-validation", "The leak", "Calibration", "Robustness", "Audit"):
        assert f"## {heading}" in text
    confusion = (home / "reports" / "many" / "cv_confusion_mfcc_svm.csv").read_text().splitlines()
    assert len(confusion) == 11
    assert all(line.count(",") == 10 for line in confusion)
