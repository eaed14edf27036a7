"""Speed of a training step: tokens per CPU-second of one thread, for each system at the paper's sizes for PTB.

Sentences are random words of PTB's usual lengths, so that nothing need be downloaded. The systems take turns, so that
a machine that is busy for a while slows them all; compare the ratios, and the medians of several rounds.
"""

import argparse
import json
import statistics
import time
from collections.abc import Mapping

import torch

from data.batch import Batch
from data.vocabulary import END, Vocabulary
from model.core import ModelConfig
from model.randomness import generator
from model.update import Update
from model.updates.joint import Config as Joint
from model.variants.lstm_lm import Config as LstmLm
from model.variants.lstm_vae import Config as LstmVae

SYSTEMS: Mapping[str, ModelConfig] = {
    "LSTM-LM": LstmLm(),
    "LSTM-VAE": LstmVae(),
    "LSTM-VAE (L = 5)": LstmVae(samples=5),
    "LSTM-VAE-AVG (L = 5)": LstmVae(samples=5, average=True),
    "LSTM-VAE-AVG (L = 10)": LstmVae(samples=10, average=True),
}
LENGTHS = (9, 15, 19, 23, 29, 36)
VOCABULARY = Vocabulary((END, *(f"w{index}" for index in range(9_999))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print data instead of a table")
    options = parser.parse_args()
    torch.set_num_threads(1)
    batches = [random_batch(length) for length in LENGTHS]
    updates = {name: prepare(config) for name, config in SYSTEMS.items()}
    for update in updates.values():
        tokens_per_second(update, batches[:1])  # first use of each kernel
    rounds = [
        {name: tokens_per_second(update, batches) for name, update in updates.items()} for _ in range(options.rounds)
    ]
    medians = {name: statistics.median(each[name] for each in rounds) for name in SYSTEMS}
    if options.json:
        print(json.dumps({"unit": "tokens per CPU-second, one thread", "rounds": rounds, "median": medians}, indent=1))
        return
    print(f"{'training step, PTB sizes, fp32, one thread':45} {'tokens/CPU-s':>12} {'of LSTM-VAE':>12}")
    for name, median in medians.items():
        print(f"{name:45} {median:12.0f} {median / medians['LSTM-VAE']:12.2f}")


def prepare(config: ModelConfig) -> Update:
    model = config.build(VOCABULARY)
    model.initialise(generator(0, "parameters"))
    return Joint().build(model.train())


def random_batch(length: int) -> Batch:
    words = torch.randint(1, len(VOCABULARY), (32, length - 1), generator=generator(0, f"words {length}"))
    return Batch(torch.cat([words, torch.zeros(32, 1, dtype=torch.long)], dim=1), torch.arange(32))


def tokens_per_second(update: Update, batches: list[Batch]) -> float:
    source = generator(0, "steps")
    began = time.process_time()
    for batch in batches:
        update.step(batch, 0.1, source)
    return sum(batch.tokens.numel() for batch in batches) / (time.process_time() - began)


if __name__ == "__main__":
    main()
