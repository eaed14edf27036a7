"""The plateau rule on scripted validation values."""

import json

import pytest

from model.plateau import Plateau, PlateauConfig, Verdict


def trace(config: PlateauConfig, values: list[float], warmup: float = 0.0) -> str:
    """One letter an epoch: i improved, I with a decay, d decay, r decay and reload, s stop, . nothing."""
    plateau, letters, learning_rate = Plateau(config, warmup), "", 1.0
    for epoch, value in enumerate(values, start=1):
        verdict = plateau.judge(epoch, value, learning_rate)
        learning_rate *= config.factor if verdict.decay else 1.0
        letters += letter(verdict)
        if verdict.stop:
            break
    return letters


def letter(verdict: Verdict) -> str:
    if verdict.stop:
        return "s"
    if verdict.improved:
        return "I" if verdict.decay else "i"
    return ("r" if verdict.reload else "d") if verdict.decay else "."


def test_the_papers_rule_halves_at_once_and_stops_after_three_in_a_row() -> None:
    assert trace(PlateauConfig(), [9, 8, 8.5, 7, 7.5, 7.4, 7.3, 6]) == "iididds"


def test_cumulative_patience_counts_all_bad_epochs() -> None:
    assert trace(PlateauConfig(count="cumulative"), [9, 9.5, 8, 8.5, 7, 7.5]) == "ididis"


def test_bad_epochs_of_the_warmup_do_not_count_against_patience() -> None:
    assert trace(PlateauConfig(), [9, 10, 11, 12, 13, 14, 15, 16], warmup=4) == "iddddds"


def test_decay_start_and_patience() -> None:
    config = PlateauConfig(decay_patience=2, decay_start_epoch=5, patience=99)
    assert trace(config, [9, 10, 11, 12, 13, 14, 15, 16]) == "i...d.d."


def test_reload_on_decay() -> None:
    assert trace(PlateauConfig(reload_on_decay=True), [9, 10, 8, 9]) == "irir"


def test_equal_is_no_improvement() -> None:
    assert trace(PlateauConfig(), [9, 9, 9, 9]) == "idds"


HE = PlateauConfig(
    decay_patience=2, decay_start_epoch=4, patience=99, reload_on_decay=True, reference="since_decay", max_decays=3
)
KIM = PlateauConfig(decay_start_epoch=4, patience=99, sticky=True, min_learning_rate=0.03)


def test_he_and_others_count_from_the_value_at_the_last_decay() -> None:
    # Epoch 4 decays at 8.4; 8.3 is better than that, though not than the best, 8; then 8.2, and decays at 8.25, 8.3.
    values = [9, 8, 8.5, 8.4, 8.3, 8.35, 8.2, 8.3, 8.25, 8.26, 8.3, 1]
    assert trace(HE, values) == "ii.r....r.s"
    against_the_best = HE.model_copy(update={"reference": "best"})
    assert trace(against_the_best, values) == "ii.r.r.s"


def test_what_he_and_others_count_before_a_decay_may_come_lets_it_come_at_once() -> None:
    assert trace(HE.model_copy(update={"decay_start_epoch": 6}), [9, 8, 9, 9, 9, 9, 9, 9]) == "ii...r.."
    assert trace(HE.model_copy(update={"decay_start_epoch": 6}), [9, 8, 9, 9, 9, 9, 9.5, 9.5]) == "ii...r.r"


def test_equal_is_not_worse_than_the_value_at_the_last_decay() -> None:
    assert trace(HE, [9, 8, 9, 9, 9, 9, 9, 9]) == "ii.r...."


def test_a_number_of_decays_ends_it() -> None:
    texar = PlateauConfig(decay_patience=2, patience=99, reload_on_decay=True, max_decays=2)
    assert trace(texar, [9, 10, 11, 8, 8.5, 9, 1]) == "i.ri.s"


def test_kim_and_others_halve_after_every_epoch_once_one_was_bad() -> None:
    # Halved to 1/2, 1/4, 1/8, 1/16 and 1/32 = 0.031; then 0.016 is below 0.03, whether the epoch improved or not.
    assert trace(KIM, [9, 10, 8, 8.5, 7, 6.9, 7, 7, 1, 1]) == "i.idIIdds"
    assert trace(KIM.model_copy(update={"min_learning_rate": 0.2}), [9, 8, 7, 7, 6, 5, 4]) == "iiidIs"


def test_xu_and_others_divide_by_six_fifths_and_stop_after_15_in_a_row() -> None:
    xu = PlateauConfig(factor=1 / 1.2, patience=15)
    assert trace(xu, [9, 10, 8] + [8.5] * 20) == "idi" + 14 * "d" + "s"


def test_yang_and_others_halve_by_the_clock() -> None:
    by_clock = PlateauConfig(decay_start_epoch=3, decay_every=2, patience=99)
    assert trace(by_clock, [9, 10, 11, 12, 13, 8, 7, 9, 9, 9]) == "i...diI.d."
    with pytest.raises(ValueError, match="falls by the clock, and sticky has nothing to decide"):
        PlateauConfig(decay_every=2, sticky=True)


@pytest.mark.parametrize("config", [PlateauConfig(), HE, KIM], ids=["paper", "he", "kim"])
def test_state_goes_through_its_record(config: PlateauConfig) -> None:
    values = [9.0, 8.0, 8.5, 8.4, 8.3, 8.35, 8.3, 8.4, 8.2, 8.6]
    for stop in range(len(values)):
        first, second = Plateau(config, 0.0), Plateau(config, 0.0)
        for epoch, value in enumerate(values[:stop], start=1):
            first.judge(epoch, value, 1.0)
        second.restore(json.loads(json.dumps(first.state())))
        for epoch, value in enumerate(values[stop:], start=stop + 1):
            assert first.judge(epoch, value, 1.0) == second.judge(epoch, value, 1.0)


def test_a_record_of_before_there_were_decays_and_references_will_do() -> None:
    plateau = Plateau(PlateauConfig(), 0.0)
    plateau.restore({"best": 8.0, "bad": 2, "bad_since_decay": 0})
    assert plateau.judge(5, 9.0, 0.25) == Verdict(improved=False, decay=True, reload=False, stop=True)
