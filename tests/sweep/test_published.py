"""The published numbers: consistent with themselves, and refused when the file is wrong."""

import math

import pytest
from pydantic import ValidationError

from sweep.published import PublishedCorpus, PublishedRow, Values, published
from sweep.spec import SweepSpec

TOKENS_PER_SENTENCE = {"PTB": 82430 / 3761, "Yahoo": 798673 / 10000}
EVERY = [
    (title, row, setting, values)
    for title, corpus in published().items()
    for row in corpus.rows
    for setting, values in row.settings.items()
]


def name(value: object) -> str:
    return value.system if isinstance(value, PublishedRow) else value if isinstance(value, str) else ""


@pytest.mark.parametrize(("title", "row", "setting", "values"), EVERY, ids=name)
def test_nll_and_ppl_imply_the_tokens_of_the_test_split(
    title: str, row: PublishedRow, setting: str, values: Values
) -> None:
    if values.ppl is None:  # of the table that has importance-weighted numbers alone
        assert values.iw is not None
        return
    implied = values.nll / math.log(values.ppl)
    if values.nll_star is None:
        assert implied == pytest.approx(TOKENS_PER_SENTENCE[title], abs=0.03)
    else:  # what Bowman et al. and Xu and Durrett counted is another thing, whatever it was
        assert implied == pytest.approx(21.03, abs=0.15)
        assert values.nll_star == pytest.approx(21.917 * math.log(values.ppl), abs=0.051)


@pytest.mark.parametrize(("title", "row", "setting", "values"), EVERY, ids=name)
def test_each_number_has_a_source_and_the_papers_own_a_deviation(
    title: str, row: PublishedRow, setting: str, values: Values
) -> None:
    assert f"Kruengkrai (ACL 2019), Table {3 if values.ppl is None else 2}" in row.source
    is_cited = "as cited in" in row.source
    assert all((" (as " in label) == is_cited for label in row.match)
    assert row.match or is_cited
    for mean, std in ((values.nll, values.nll_std), (values.ppl, values.ppl_std), (values.kl, values.kl_std)):
        has_std = not is_cited or values.iw is not None  # the paper cites those of He et al.
        assert (std is not None) == (has_std and mean is not None)
    assert (values.iw is None) == (values.iw_std is None)
    # Weights lower a bound.
    assert values.iw is None or values.iw < values.nll
    assert (values.kl is None) == ("-LM" in row.system or values.ppl is None)


def test_rows_and_sizes() -> None:
    ptb, yahoo = published()["PTB"], published()["Yahoo"]
    assert [len(ptb.rows), len(yahoo.rows)] == [11, 11]
    assert ptb.settings == yahoo.settings == ["Standard", "Inputless"]
    assert (ptb.sizes.train, ptb.sizes.valid, ptb.sizes.test, ptb.sizes.vocabulary) == (42068, 3370, 3761, 10000)
    assert (yahoo.sizes.train, yahoo.sizes.valid, yahoo.sizes.test) == (100000, 10000, 10000)
    for corpus in (ptb, yahoo):
        labels = [label for row in corpus.rows for label in row.match]
        assert len(labels) == len(set(labels))
        assert sum(" (as " not in label for label in labels) == 6


def test_counterpart_is_by_whole_label() -> None:
    ptb = published()["PTB"]
    row = ptb.counterpart("LSTM-VAE (L = 5)")
    assert row is not None
    assert row.settings["Inputless"].ppl == 468.1
    assert ptb.counterpart("LSTM-VAE (L = 50)") is None
    assert ptb.counterpart("LSTM-vMF-VAE (Xu & Durrett)") is None


@pytest.mark.parametrize(("sweep", "title"), [("ptb-systems", "PTB"), ("yahoo-systems", "Yahoo")])
def test_the_sweep_of_all_systems_has_a_row_for_each_published_one_in_the_papers_order(sweep: str, title: str) -> None:
    labels = list(dict.fromkeys(cell.labels["method"] for cell in SweepSpec.load(sweep).cells()))
    counterparts = [found for label in labels if (found := published()[title].counterpart(label))]
    # Of the language model of Bowman et al. nothing is known that is not ours.
    expected = [row.system for row in published()[title].rows if row.system != "LSTM-LM (Bowman et al.)"]
    assert list(dict.fromkeys(row.system for row in counterparts)) == expected


def test_a_misspelt_key_is_refused() -> None:
    sizes = {"train": 1, "valid": 1, "test": 1, "vocabulary": 1, "source": "x"}
    row = {"system": "x", "source": "x", "settings": {"Standard": {"nll": 1, "ppl": 2, "pll_std": 3}}}
    with pytest.raises(ValidationError, match="pll_std"):
        PublishedCorpus.model_validate({"sizes": sizes, "rows": [row]})
