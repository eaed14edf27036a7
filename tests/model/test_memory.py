"""What a training step holds at once, in a process of its own: never all logits, and the gates once."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, torch
from data.batch import Batch
from data.vocabulary import END, Vocabulary
from model import host
from model.randomness import generator
from model.objectives.elbo import Config as Elbo
from model.updates.joint import Config as Joint
from model.variants.lstm_vae import Config
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
host.set_up()
width, hidden, length = map(int, sys.argv[1:])
model = Config(embedding_dim=16, hidden_dim=hidden, samples=10).build(
    Vocabulary((END, *(f"w{i}" for i in range(width - 1))))
)
model.initialise(generator(0, "parameters"))
update = Joint().build(model.train())
def step(length):
    tokens = torch.randint(width, (32, length), generator=generator(0, "tokens"))
    update.step(Batch(tokens, torch.arange(32)), Elbo().at(0.0, 0.1), generator(0, "step"))
step(2)
before = peak()
step(length)
print(peak() - before)
"""


def growth(width: int, hidden: int, length: int) -> int:
    """Bytes at the peak of a step of this length above the peak of a step of two words."""
    command = [sys.executable, "-c", PROGRAM, str(width), str(hidden), str(length)]
    return int(subprocess.run(command, capture_output=True, check=True).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux alone")
def test_a_step_never_holds_all_logits() -> None:
    rows, width = 10 * 32 * 40, 20_000
    assert growth(width, 32, 40) < rows * width * 4 / 3


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux alone")
def test_a_step_holds_what_the_recurrence_needs_and_little_else() -> None:
    """Of each row and step: 4 gates, state, cell and its tanh; of what follows the state, its mask and gradients."""
    hidden, length = 256, 100
    numbers = 10 * 32 * length * hidden
    assert growth(200, hidden, length) < 16 * numbers * 4
