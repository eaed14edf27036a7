"""What the best weights of a done trial were measured to be after its training: the record that is kept."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from model.bounds import FORMS as FORMS
from model.measure import MI_BATCH as MI_BATCH
from model.measure import EvaluationSettings as EvaluationSettings
from sweep.record import seal, unseal


@dataclass(frozen=True)
class Evaluation:
    """Measurements of a trial's best weights. Nats per sentence, `</s>` counted; not finite where the model's are not.

    settings: of `EvaluationSettings`, and `mi_batch`. correlation: (n,) ρ of the exchangeable prior, fitted on
    `settings.fit`; empty where a likelihood is given one latent or none. kl_by_dimension: (n,) of one latent, mean over
    the test split; a single one where the KL does not split. cost: `seconds`. finished: Unix seconds.

    valid, test: metric to value. `rec`, `kl` of one latent; for each form of `FORMS` `nelbo_FORM`, `ppl_FORM`, and
    `nelbo_FORM_se`, the standard error over sentences. The forms are
    `paper` — reconstruction and one KL term: the paper's −ELBO, no bound when a likelihood is given several latents;
    `strict` — every latent is charged its KL; `exch` — the latents' prior is exchangeable, with correlations fitted;
    `l1` — the same weights, given one latent alone. The last is `nelbo_paper` + `jensen`, what averaging hidden states
    gains by Jensen's inequality. All coincide for a model with one latent, and for a language model they are exact.

    test alone: of a model with latents `mi`, mutual information of a sentence and one latent, and `mi_se`; `mi_b32`,
    the same in pools of `mi_batch` sentences, where it cannot exceed log `mi_batch`; `kl_aggregate`, KL of the
    aggregate posterior from the prior, kl − mi; `active_units`, where the family tells them; `swap`, nats by which
    another sentence's latents reconstruct worse. With draws K > 0, for each form `iw_FORM`, the importance-weighted
    NLL, its `iw_FORM_se` over sentences, and `iw_FORM_ess`, the effective number of draws, mean over sentences.
    """

    key: str
    settings: Mapping[str, Any]
    latents_per_sentence: int
    correlation: tuple[float, ...]
    kl_by_dimension: tuple[float, ...]
    valid: Mapping[str, float]
    test: Mapping[str, float]
    cost: Mapping[str, float]
    environment: Mapping[str, str]
    finished: float

    def to_json(self) -> str:
        # JSON has no number for what is not finite.
        splits = {name: {key: value if math.isfinite(value) else None for key, value in split.items()}
                  for name, split in (("valid", self.valid), ("test", self.test))}  # fmt: skip
        return seal({**asdict(self), **splits})

    @classmethod
    def from_json(cls, text: str | bytes) -> "Evaluation":
        """Raises ValueError when the text is not what was written."""
        fields = unseal(text)
        for name in ("valid", "test"):
            fields[name] = {key: math.nan if value is None else value for key, value in fields[name].items()}
        for name in ("correlation", "kl_by_dimension"):
            fields[name] = tuple(fields[name])
        return cls(**fields)
