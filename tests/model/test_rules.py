"""The plateau rule on scripted validation values."""

from model.plateau import Plateau, PlateauConfig


def trace(config: PlateauConfig, values: list[float], warmup: float = 0.0) -> str:
    """One letter an epoch: i improved, d decay, r decay and reload, s stop, . nothing; a stop ends it."""
    plateau, letters = Plateau(config, warmup), ""
    for epoch, value in enumerate(values, start=1):
        verdict = plateau.judge(epoch, value)
        letters += (
            "s"
            if verdict.stop
            else "i"
            if verdict.improved
            else "r"
            if verdict.reload
            else "d"
            if verdict.decay
            else "."
        )
        if verdict.stop:
            break
    return letters


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


def test_state_goes_through_its_record() -> None:
    first = Plateau(PlateauConfig(), 0.0)
    for epoch, value in enumerate([9.0, 10.0, 8.0, 9.0], start=1):
        first.judge(epoch, value)
    second = Plateau(PlateauConfig(), 0.0)
    second.restore(first.state())
    for epoch, value in enumerate([9.0, 9.0], start=5):
        assert first.judge(epoch, value) == second.judge(epoch, value)
