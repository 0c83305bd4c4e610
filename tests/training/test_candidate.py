"""Candidates: what a model is fitted on and how its parameters and its threshold are chosen."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.metrics import r2_score, roc_auc_score

from tabserve.models.lightgbm import LgbRegressor
from tabserve.models.linear import LogisticRegression
from tabserve.tasks.regression import Regression
from tabserve.train_pipeline import run_training
from tabserve.training import candidate as candidates
from tabserve.training.candidate import fit
from tabserve.training.folds import folds_of
from tabserve.training.hold_out import hashes, held_out
from tabserve.training.parts import read, split
from tabserve.training.plan import Plan
from tests.training.helpers import FEW_FOLDS, newest, predictions


@pytest.mark.slow
def test_a_training_with_the_same_seed_and_more_jobs_predicts_the_same_to_the_last_bit(again, artifact, records):
    assert again.model_id != artifact.model_id
    assert predictions(again, records) == predictions(artifact, records)
    for same in ("parameters", "trials", "threshold", "thresholds", "metrics", "intervals", "comparison"):
        assert getattr(again.manifest, same) == getattr(artifact.manifest, same)
    for same in ("baseline_difference", "groups", "protected"):
        assert getattr(again.manifest, same) == getattr(artifact.manifest, same)


def test_a_training_with_another_seed_is_another(credit, empty, artifact, records, trained):
    ungated = dataclasses.replace(credit, gates=(), **FEW_FOLDS)  # what is asked is not whether it is any good
    run_training(ungated, empty, credit.path, Plan(trials=1, seed=43, jobs=1), ["lightgbm"])
    other = newest(empty)
    assert other.manifest.seed == 43
    assert other.manifest.trials[0].parameters != artifact.manifest.trials[0].parameters
    assert predictions(other, records) != predictions(artifact, records)
    hold_outs = [
        registry.hold_out(one.model_id, one.manifest) for registry, one in ((empty, other), (trained, artifact))
    ]
    assert hold_outs[0] != hold_outs[1]


@pytest.mark.slow
def test_nothing_that_is_fitted_or_chosen_depends_on_the_hold_out(credit, empty, artifact, data):
    table = pd.read_csv(data, keep_default_na=False)
    hold_out = held_out(hashes(table, credit.features, 42), 0.3)
    names = [feature.name for feature in credit.features]
    table.loc[hold_out, names] = table.loc[hold_out, names].iloc[0].tolist()  # so that they stay held out
    table.loc[hold_out, "default"] = 3 - table.loc[hold_out, "default"]
    table.to_csv(data, index=False)

    ungated = dataclasses.replace(credit, gates=())
    (manifest,) = run_training(ungated, empty, data, Plan(trials=2, seed=42), ["lightgbm"]).manifests
    before, after = artifact.manifest, newest(empty)
    assert after.model.text_ == artifact.model.text_
    for same in ("parameters", "trials", "threshold"):
        assert getattr(after.manifest, same) == getattr(before, same)
    for part in ("train", "cross_validation"):
        assert manifest.metrics[part] == before.metrics[part]
    assert manifest.metrics["hold_out"]["roc_auc"] == 0.5  # all its rows are the same now


def test_the_threshold_is_the_cheapest_on_out_of_fold_scores(credit):
    train = split(credit, read(credit, credit.path), 42).train
    candidate = fit(credit, credit.baseline, train, Plan(trials=1, seed=42, jobs=1))
    y, scores = np.tile(train.y, len(candidate.out_of_fold)), candidate.out_of_fold.ravel()

    def cost(threshold: float) -> float:
        return 5 * np.sum((y == 1) & (scores < threshold)) + np.sum((y == 0) & (scores >= threshold))

    assert cost(candidate.decision.value) == min(cost(threshold) for threshold in [*scores, 1.1])
    # and those scores are of rows that their model had not seen
    seen = roc_auc_score(train.y, candidate.predict(train))
    assert all(roc_auc_score(train.y, repeat) < seen - 0.01 for repeat in candidate.out_of_fold)
    assert candidate.out_of_fold.shape[1] == len(train.y)


def test_a_candidate_predicts_a_part_as_it_will_predict_its_records(credit):
    parts = split(credit, read(credit, credit.path), 42)
    candidate = fit(credit, credit.baseline, parts.train, Plan(trials=1, seed=42, jobs=1))
    X = candidate.pipeline.transform(parts.test.features.to_dict("records"))
    assert candidate.predict(parts.test).tolist() == candidate.model.predict(X).tolist()


def test_the_score_is_a_probability_and_bent_by_no_weights(artifact, records):
    assert np.mean(predictions(artifact, records)) == pytest.approx(0.3, abs=0.02)


def test_the_best_trial_is_the_one_that_was_fitted(artifact):
    trials = artifact.manifest.trials
    best = max(trials, key=lambda trial: trial.score)
    assert best.parameters.items() <= artifact.manifest.parameters.items()
    # LightGBM leaves out a round in which nothing is worth splitting
    assert 0 < artifact.model.text_.count("Tree=") <= best.parameters["num_rounds"]


def test_a_model_trained_without_protected_features_still_takes_them_and_does_not_use_them(
    excluding, artifact, records, credit
):
    others = [
        {**record, "age": 18 + row % 60, "personal_status": "female", "foreign_worker": "no"}
        for row, record in enumerate(records)
    ]
    assert [feature.name for feature in excluding.features] == [feature.name for feature in credit.features]
    assert predictions(excluding, others) == predictions(excluding, records)
    assert predictions(artifact, others) != predictions(artifact, records)


def test_when_the_time_is_over_a_search_ends_with_what_it_has(credit, monkeypatch):
    few = dataclasses.replace(credit, **FEW_FOLDS)
    train = split(few, read(few, few.path), 42).train
    one = fit(few, few.algorithms[0], train, Plan(trials=5, jobs=1, minutes=1e-9))
    assert len(one.trials) == 1
    assert one.notes[0] == "The time for the search was over after 1 of 5 trials."


def test_a_regression_on_a_log_scale_predicts_and_is_measured_in_the_targets_unit(bikes):
    on_log = dataclasses.replace(bikes, task=Regression(log=True), **FEW_FOLDS)
    train = split(on_log, read(on_log, on_log.path), 42).train.take(slice(1500))
    trees = dataclasses.replace(bikes.algorithms[-1], search_space={}, model=LgbRegressor())
    for algorithm in (trees, bikes.baseline):
        one = fit(on_log, algorithm, train, Plan(trials=1, jobs=1))
        assert one.predict(train).min() >= 0
        assert one.trials[0].cross_validation.score == pytest.approx(
            np.mean([r2_score(train.y[rows], one.out_of_fold[0][rows]) for _, rows in folds_of(on_log, train, 42)])
        )
        assert 0.5 < np.median(one.out_of_fold) / np.median(train.y) < 2
        clone(one.model).set_params(**one.model.get_params())


def test_with_one_split_only_the_rows_that_judge_count_in_metrics_threshold_and_report(credit, empty):
    one_split = dataclasses.replace(credit, splits=1, gates=())
    parts = split(one_split, read(one_split, one_split.path), 42)
    candidate = fit(one_split, one_split.algorithms[0], parts.train, Plan(trials=1, jobs=1))
    ((fitted, judged),) = folds_of(one_split, parts.train, 42)
    scores = candidate.out_of_fold[0]
    assert np.isnan(scores[fitted]).all()
    assert candidate.decision == one_split.task.decide(parts.train.y[judged], scores[None, judged])
    (outcome,) = run_training(one_split, empty, one_split.path, Plan(trials=1, jobs=1), ["lightgbm"]).outcomes
    found = outcome.manifest.metrics["cross_validation"]
    assert found == one_split.task.metrics(parts.train.y[judged], scores[judged], candidate.decision)
    assert outcome.manifest.trials[0].score == found["roc_auc"]
    assert outcome.manifest.thresholds["cost"].cross_validation["expected_cost"] == found["expected_cost"]
    assert outcome.report.is_file()


def test_a_model_that_takes_few_rows_is_fitted_and_judged_on_a_sample(credit, empty, monkeypatch):
    monkeypatch.setattr(LogisticRegression, "most_rows", 300)
    few = dataclasses.replace(credit, gates=(), **FEW_FOLDS)
    parts = split(few, read(few, few.path), 42)
    candidate = fit(few, few.baseline, parts.train, Plan(trials=1, jobs=1))
    some = candidate.fitted_on(parts.train)
    assert len(some.y) == 300
    assert np.isfinite(candidate.out_of_fold).sum(axis=1).tolist() == [300] * len(candidate.out_of_fold)
    assert candidate.decision == few.task.decide(some.y, candidate.out_of_fold_of(parts.train))
    assert candidate.notes == [
        f"logistic takes 300 of the {len(parts.train.y)} rows: more would take long and hardly change it."
    ]
    again = candidate.refit(some)
    assert again.model.coef_.tolist() == candidate.model.coef_.tolist()
    outcomes = run_training(few, empty, few.path, Plan(trials=1, jobs=1), ["lightgbm"]).outcomes
    compared = outcomes[0].manifest.comparison["logistic"]["cross_validation"]
    assert compared["roc_auc"] == pytest.approx(
        np.mean([roc_auc_score(some.y, repeat) for repeat in candidate.out_of_fold_of(parts.train)])
    )


def test_many_rows_are_predicted_in_parts_as_all_at_once(credit, monkeypatch):
    train = split(credit, read(credit, credit.path), 42).train
    candidate = fit(dataclasses.replace(credit, **FEW_FOLDS), credit.baseline, train, Plan(trials=1, jobs=1))
    whole = candidate.predict(train)
    monkeypatch.setattr(candidates, "AT_ONCE", 100)
    assert candidate.predict(train).tolist() == whole.tolist()
    assert candidate.predict(train.take(slice(0))).shape == (0,)
