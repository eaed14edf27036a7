"""The paper's systems: sizes, and the identities between them."""

import math

import pytest
import torch
from torch import Tensor

from data.batch import sequential_batches
from data.corpus import Corpus
from data.vocabulary import END, Vocabulary
from model.core import ModelConfig
from model.gaussian import largest_log_variance
from model.inputs import DecoderInputs
from model.lstm import LstmDecoder
from model.randomness import dropout, generator
from model.recurrence import lstm
from model.variants.lstm_lm import Config as LmConfig
from model.variants.lstm_vae import Config as VaeConfig
from model.variants.lstm_vae import LstmVae

SMALL = {"embedding_dim": 6, "hidden_dim": 10, "latent_dim": 4}


def vae(corpus: Corpus, seed: int = 1, **fields: object) -> LstmVae:
    model = VaeConfig.model_validate({**SMALL, **fields}).build(corpus.vocabulary)
    model.initialise(generator(seed, "parameters"))
    return model


def tokens_of(corpus: Corpus) -> Tensor:
    return list(sequential_batches(corpus.splits["train"], 5))[-1].tokens


def vocabulary_of(size: int) -> Vocabulary:
    return Vocabulary((END, *(f"w{index}" for index in range(size - 1))))


@pytest.mark.parametrize(
    ("config", "size", "tables", "published"),
    [
        (LmConfig(), 10_000, 1, 5_803_200),
        (VaeConfig(), 10_000, 2, 7_696_000),
        (VaeConfig(samples=10, average=True), 10_000, 2, 7_696_000),
        (LmConfig(embedding_dim=512, hidden_dim=1024), 20_000, 1, 37_019_648),
        (VaeConfig(embedding_dim=512, hidden_dim=1024), 20_000, 2, 53_788_672),
    ],
)
def test_parameter_counts(config: LmConfig | VaeConfig, size: int, tables: int, published: int) -> None:
    """The paper's sizes count V rows a table; ours has one more row in each input table, for `<s>`, never predicted."""
    with torch.device("meta"):
        model = config.build(vocabulary_of(size))
    start_rows = tables * config.embedding_dim
    assert sum(parameter.numel() for parameter in model.parameters()) == published + start_rows


@pytest.mark.parametrize("training", [False, True])
def test_averaging_one_chain_is_the_vae_bit_for_bit(corpus: Corpus, training: bool) -> None:
    tokens = tokens_of(corpus)
    bounds = []
    for average in (False, True):
        model = vae(corpus, samples=1, average=average, word_dropout=0.3).train(training)
        source = generator(3, "noise")
        bound = model.bound(tokens, model.draw_noise(len(tokens), 1, source), source)
        bound.paper.sum().backward()  # type: ignore[no-untyped-call]
        bounds.append((bound.rec, bound.kl, *(parameter.grad for parameter in model.parameters())))
    for one, other in zip(*bounds, strict=True):
        assert one is not None
        assert other is not None
        assert torch.equal(one, other)


def test_averaging_equal_chains_is_the_vae(corpus: Corpus) -> None:
    tokens = tokens_of(corpus)
    single, averaged = vae(corpus).eval(), vae(corpus, samples=3, average=True).eval()
    source = generator(3, "noise")
    noise = single.draw_noise(len(tokens), 1, source)
    same = averaged.bound(tokens, noise.expand(-1, 3, -1, -1), source)
    assert torch.allclose(same.rec, single.bound(tokens, noise, source).rec, atol=1e-5)


def test_averaged_states_are_averaged_logits_and_never_reconstruct_worse(corpus: Corpus) -> None:
    """log p_AVG = mean_l log p_l + g with g >= 0: the renormalised geometric mean of the chains' predictions."""
    tokens = tokens_of(corpus)
    averaged, single = vae(corpus, samples=4, average=True).double().eval(), vae(corpus).double().eval()
    source = generator(3, "noise")
    latents = torch.randn(1, 4, len(tokens), 4, generator=source, dtype=torch.float64) * 3
    together = averaged.log_likelihood(tokens, latents, source)[0]
    apart = single.log_likelihood(tokens, latents.transpose(0, 1), source)
    assert bool((together >= apart.mean(dim=0)).all())
    assert bool((together > apart.mean(dim=0) + 1e-6).any())

    decoder, inputs = averaged.decoder, averaged.inputs(tokens, False, source)
    hidden = lstm(decoder.lstm, *decoder._read(inputs, latents, source), *decoder._start(latents[0]))
    logits = decoder.to_logits(hidden).mean(dim=1)
    log_p = logits.log_softmax(dim=-1).gather(-1, tokens.t().unsqueeze(-1)).sum(dim=(0, 2))
    assert torch.allclose(log_p, together, atol=1e-10)


def test_samples_of_the_vae_are_decoded_one_by_one(corpus: Corpus) -> None:
    """Five draws in one call equal five calls of one draw."""
    tokens = tokens_of(corpus)
    model = vae(corpus, samples=5).double().eval()
    source = generator(3, "noise")
    latents = torch.randn(5, 1, len(tokens), 4, generator=source, dtype=torch.float64)
    together = model.log_likelihood(tokens, latents, source)
    for draw in range(5):
        assert torch.allclose(model.log_likelihood(tokens, latents[draw : draw + 1], source)[0], together[draw])


def test_no_information_no_kl(corpus: Corpus) -> None:
    tokens = tokens_of(corpus)
    model = vae(corpus)
    source = generator(3, "noise")
    assert bool((model.posterior(tokens, source).kl() > 0).all())
    with torch.no_grad():
        model.to_mean.weight.zero_()
        model.to_log_variance.weight.zero_()
    assert torch.equal(model.posterior(tokens, source).kl(), torch.zeros(len(tokens)))


def test_kl_is_that_of_torch(corpus: Corpus) -> None:
    posterior = vae(corpus, linear_bias=True).posterior(tokens_of(corpus), generator(3, "noise"))
    q = torch.distributions.Normal(posterior.mean, torch.exp(0.5 * posterior.log_variance))
    expected = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0)).sum(dim=1)
    assert torch.allclose(posterior.kl(), expected, atol=1e-6)


def test_strict_bound_charges_each_latent(corpus: Corpus) -> None:
    tokens = tokens_of(corpus)
    model = vae(corpus, samples=2, average=True)
    source = generator(3, "noise")
    bound = model.bound(tokens, model.draw_noise(len(tokens), 1, source), source)
    assert torch.allclose(bound.strict, bound.paper + bound.kl)


def test_delta_keeps_the_kl_up(corpus: Corpus) -> None:
    tokens, source = tokens_of(corpus), generator(3, "noise")
    model = vae(corpus, delta=4.0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(100.0)  # as far as the posterior can be pushed
        model.to_mean.weight.zero_()
    kl = model.posterior(tokens, source).kl()
    assert bool((kl >= 4.0 - 1e-4).all())
    assert not bool((vae(corpus).posterior(tokens, source).kl() >= 1.0).any())


def test_largest_variances_of_delta_vaes() -> None:
    """σ² of a dimension of 32, for 4 and 8 nats in all."""
    for delta, variance in ((4.0, 0.4488), (8.0, 0.3017)):
        assert math.exp(largest_log_variance(delta / 32)) == pytest.approx(variance, abs=5e-5)
    for kl in (1e-6, 0.3, 20.0, 1e4):
        x = largest_log_variance(kl)
        assert 0.5 * (math.expm1(x) - x) == pytest.approx(kl)


def test_inputless_decoders_see_position_alone(corpus: Corpus) -> None:
    """The inputless language model gives a word at a position one probability, whatever stands around it."""
    model = LmConfig(embedding_dim=6, hidden_dim=10, inputs="none").build(corpus.vocabulary)
    model.initialise(generator(1, "parameters"))
    model.eval()
    source = generator(3, "noise")

    def nll(words: list[int]) -> float:
        tokens = torch.tensor([words])
        return float(model.bound(tokens, model.draw_noise(1, 1, source), source).rec.detach())

    assert nll([3, 4, 0]) - nll([3, 5, 0]) == pytest.approx(nll([6, 4, 0]) - nll([6, 5, 0]), abs=1e-5)


def test_decoder_inputs() -> None:
    tokens = torch.tensor([[5, 6, 7, 0]])
    source = generator(0, "words")
    words = DecoderInputs("words", 0.0, start=9, unknown=1)
    assert words(tokens, True, source).tolist() == [[9, 5, 6, 7]]
    assert DecoderInputs("none", 0.0, start=9, unknown=1)(tokens.expand(3, -1), False, source).tolist() == [
        [9, 1, 1, 1]
    ]
    dropping = DecoderInputs("words", 0.5, start=9, unknown=1)
    assert dropping(tokens, False, source).tolist() == [[9, 5, 6, 7]]
    read = torch.cat([dropping(tokens, True, source) for _ in range(400)])
    assert set(read[:, 0].tolist()) == {9}
    assert float((read[:, 1:] == 1).double().mean()) == pytest.approx(0.5, abs=0.06)


def test_dropout_keeps_the_mean_and_its_rate() -> None:
    dropped = dropout(torch.ones(200_000), 0.3, generator(0, "dropout"))
    assert float(dropped.mean()) == pytest.approx(1.0, abs=0.01)
    assert float((dropped == 0).double().mean()) == pytest.approx(0.3, abs=0.01)


@pytest.mark.parametrize(
    "fields",
    [
        {"initial_state": "tanh_cell"},
        {"initial_state": "linear_both", "linear_bias": True},
        {"encoder_dropout": 0.5},
        {"latent_dropout": True},
        {"dropout_before_average": True, "samples": 3, "average": True},
        {"shared_input_dropout": True, "samples": 3, "average": True},
        {"input_dropout": 0.1},
        {"output_dropout": 0.1},
        {"word_dropout": 0.4},
        {"inputs": "none"},
        {"init_range": 0.3},
        {"embedding_init_range": 0.3},
        {"linear_bias": True},
    ],
    ids=repr,
)
def test_every_option_acts_in_training(corpus: Corpus, fields: dict[str, object]) -> None:
    tokens = tokens_of(corpus)
    plain = {key: value for key, value in fields.items() if key in ("samples", "average")}
    values = []
    for options in (plain, fields):
        model = vae(corpus, **options)
        source = generator(3, "noise")
        values.append(model.bound(tokens, model.draw_noise(len(tokens), 1, source), source).rec)
    assert not torch.equal(*values)


def test_options_of_dropout_do_not_act_in_evaluation(corpus: Corpus) -> None:
    tokens = tokens_of(corpus)
    values = []
    for options in ({}, {"encoder_dropout": 0.5, "latent_dropout": True, "dropout_before_average": True}):
        model = vae(corpus, samples=3, average=True, **options).eval()
        source = generator(3, "noise")
        values.append(model.bound(tokens, model.draw_noise(len(tokens), 1, source), source).rec)
    assert torch.equal(*values)


def test_parameters_are_uniform_and_embeddings_have_their_own_range(corpus: Corpus) -> None:
    model = vae(corpus, init_range=0.01, embedding_init_range=0.1)
    tables = {"encoder.embedding.weight", "decoder.embedding.weight"}
    for name, parameter in model.named_parameters():
        widest = 0.1 if name in tables else 0.01
        assert 0.5 * widest < float(parameter.detach().abs().max()) <= widest, name


def test_decoder_without_latents_starts_from_zero() -> None:
    decoder = LstmDecoder(
        num_inputs=5, num_outputs=4, embedding_dim=3, hidden_dim=6, input_dropout=0.0, output_dropout=0.0
    )
    hidden, cell = decoder._start(torch.empty(1, 2, 0))
    assert not hidden.any()
    assert not cell.any()


def test_configs_are_of_their_kind() -> None:
    assert issubclass(LmConfig, ModelConfig)
    assert "latent_dim" not in LmConfig.model_fields
