from __future__ import annotations

import pickle

import pytest

from medsweep.errors import (
    ArtifactError,
    DataError,
    MedsweepError,
    ParamsError,
    SearchError,
    StoreError,
    unknown_name,
)


def test_an_error_is_one_line_that_says_where_what_and_what_to_do() -> None:
    error = DataError("has no\nimages.", where="data/raw", fix="Put some there.")
    assert str(error) == "data/raw: has no images. Put some there."
    assert str(DataError("is bad.")) == "is bad."


@pytest.mark.parametrize("kind", [MedsweepError, ParamsError, DataError, ArtifactError, StoreError, SearchError])
def test_an_error_from_a_worker_process_arrives_whole(kind: type[MedsweepError]) -> None:
    error = kind("is bad.", where="here", fix="Mend it.")
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is kind
    assert (back.message, back.where, back.fix, back.exit_code) == ("is bad.", "here", "Mend it.", error.exit_code)


def test_what_the_user_can_mend_ends_with_2_and_a_search_without_a_model_with_3() -> None:
    assert {each.exit_code for each in (ParamsError, DataError, ArtifactError, StoreError)} == {2}
    assert SearchError.exit_code == 3


def test_an_unknown_name_is_answered_with_the_path_and_the_valid_names() -> None:
    error = unknown_name("loss", "focl", ["focal", "kl_divergence"], where="train.space.loss")
    assert str(error) == "train.space.loss: unknown loss 'focl'. Choose from: focal, kl_divergence."
    assert isinstance(error, ParamsError)
