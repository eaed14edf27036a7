"""What a webhook is told of a launch, by a real server; and that nothing about it reaches the launch."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweep import notify
from sweep.document import read
from sweep.notify import Notifier, NotifySettings, notified
from sweep.record import EpochRecord, TrialFailure, WantedTrial
from sweep.spec import SweepSpec
from tests.faults.chaos import wait_for
from tests.sweep.webhook import SECRET, Webhook, webhook

TRIAL = WantedTrial("a" * 64, {"method": "LSTM-LM"}, 1, {})
FAILURE = TrialFailure("a" * 64, "non-finite", "in epoch 1", "", 1, "here", 0.0)


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    monkeypatch.setattr(notify, "PAUSE", 0.05)
    with webhook() as found:
        monkeypatch.setenv("SWEEP_WEBHOOK", found.url)
        yield found


def test_the_first_failures_and_the_end_are_told(hook: Webhook) -> None:
    notifier = Notifier(hook.url, "tiny", NotifySettings(failures=2))
    for _ in range(5):
        notifier.failed(TRIAL, FAILURE)
    notifier.ended(1, "3 trials done, 5 failed")
    assert notifier.close() is None
    first, second, last = hook.posted
    text = "sweep 'tiny': LSTM-LM / seed 1 failed: non-finite: in epoch 1"
    facts = {"sweep": "tiny", "trial": TRIAL.name, "key": TRIAL.key, "kind": "non-finite", "message": "in epoch 1"}
    assert first == {"event": "failed", "text": text, **facts}
    assert second["text"] == f"{text}; further ones are not told"
    assert last == {
        "event": "finished", "sweep": "tiny", "exit_code": 1, "text": "sweep 'tiny': 3 trials done, 5 failed"
    }  # fmt: skip


def test_a_stall_is_told_once_until_a_trial_gets_on(hook: Webhook, an_epoch: EpochRecord) -> None:
    notifier = Notifier(hook.url, "tiny", NotifySettings(stalled_minutes=0.5 / 60))
    wait_for(lambda: hook.posted, seconds=10)
    time.sleep(1.0)
    assert [each["event"] for each in hook.posted] == ["stalled"]
    assert "no trial has come any further for 0.00833333 minutes" in hook.posted[0]["text"]
    notifier.epoch(TRIAL, an_epoch)
    wait_for(lambda: len(hook.posted) == 2, seconds=10)
    assert notifier.close() is None


def test_epochs_keep_a_stall_away(hook: Webhook, an_epoch: EpochRecord) -> None:
    notifier = Notifier(hook.url, "tiny", NotifySettings(stalled_minutes=1.0 / 60))
    for _ in range(8):
        notifier.epoch(TRIAL, an_epoch)
        time.sleep(0.25)
    assert notifier.close() is None
    assert hook.posted == []


@pytest.fixture
def an_epoch() -> EpochRecord:
    return EpochRecord(1, 0.0, 0.0, 1.0, 1.0, {}, {}, True)


def test_a_server_that_hangs_holds_nobody_up(hook: Webhook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "ANSWER_SECONDS", 0.3)
    hook.gate.clear()
    began = time.monotonic()
    notifier = Notifier(hook.url, "tiny", NotifySettings())
    notifier.failed(TRIAL, FAILURE)
    assert time.monotonic() - began < 0.2
    warning = notifier.close()
    assert time.monotonic() - began < 5.0
    assert warning == "the webhook of SWEEP_WEBHOOK could not be told everything (TimeoutError)"


@pytest.mark.parametrize(("status", "said"), [(404, "HTTP status 404"), (500, "HTTP status 500")])
def test_a_refusal_is_one_warning_without_the_address(hook: Webhook, status: int, said: str) -> None:
    hook.status, warnings = status, list[str]()
    with notified(None, "tiny", warnings.append) as notifier:
        assert notifier is not None
        notifier.failed(TRIAL, FAILURE)
    assert warnings == [f"the webhook of SWEEP_WEBHOOK could not be told everything ({said})"]
    assert len(hook.posted) == notify.TRIES


def test_a_server_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "PAUSE", 0.05)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv("MY_HOOK", f"http://127.0.0.1:{port}/{SECRET}")
    warnings: list[str] = []
    with notified(NotifySettings(webhook="MY_HOOK"), "tiny", warnings.append) as notifier:
        assert notifier is not None
        notifier.ended(0, "done")
    assert warnings == ["the webhook of MY_HOOK could not be told everything (Connection refused)"]


def test_nobody_is_notified_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SWEEP_WEBHOOK", raising=False)
    with notified(None, "tiny", pytest.fail) as notifier:
        assert notifier is None
    with pytest.raises(ValueError, match="the environment has no SWEEP_WEBHOOK; export it there"):
        notified(NotifySettings(), "tiny", pytest.fail).__enter__()


@pytest.mark.parametrize(
    "url",
    [
        f"file:///{SECRET}",
        f"https:///{SECRET}",
        SECRET,
        f"https://a b/{SECRET}",
        f"https://é/{SECRET}",
        f"http://[{SECRET}",
    ],
)
def test_what_is_no_address_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("SWEEP_WEBHOOK", url)
    with pytest.raises(ValueError, match="SWEEP_WEBHOOK must hold an http:// or https:// address") as error:
        notified(None, "tiny", pytest.fail).__enter__()
    assert SECRET not in str(error.value)


def test_a_spec_names_the_variable_and_never_the_address(tmp_path: Path) -> None:
    spec = tmp_path / "tiny.yaml"
    spec.write_text("name: tiny\nnotify: {webhook: MY_HOOK, failures: 1}\n")
    fields = SweepSpec.of(read(spec, "tiny.yaml")).fields
    assert fields.notify == NotifySettings(webhook="MY_HOOK", failures=1)
    spec.write_text("name: tiny\nnotify: {webhook: 'https://hooks.example/x'}\n")
    with pytest.raises(ValueError, match="tiny.yaml:2: notify.webhook: "):
        SweepSpec.of(read(spec, "tiny.yaml"))
