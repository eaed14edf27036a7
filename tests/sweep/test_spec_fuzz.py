"""Ten thousand wrong specs and overrides, the same ones every run: each is taken, or refused in one sentence."""

import contextlib
import io
import json
import math
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sweep.cli import main
from sweep.config import GROUPS
from sweep.spec import SpecFields, SweepSpec

pytestmark = pytest.mark.timeout(400)  # a minute on an idle machine, which this may not be
ROOT = Path(__file__).parents[2]
SECONDS = 10  # that no spec may take, however it unfolds; most take milliseconds
SEEDS = st.integers(0, 2**64 - 1)  # of `Random`: hypothesis is slow at drawing whole trees


def examples(number: int) -> settings:
    return settings(
        derandomize=True, max_examples=number, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )


class Raw(str):
    """YAML to be written as it stands."""


SMALL = {
    "name": "small",
    "about": "every key of a spec",
    "base": {
        "data": {"kind": "lines", "name": "tiny"},
        "model": {"embedding_dim": 6, "hidden_dim": 8},
        "schedule": {"kind": "linear", "epochs": 2},
        "train": {"epochs": 3, "batch_size": 4, "plateau": {"patience": 2}},
        "evaluate": "paper",
    },
    "axes": {
        "setting": {"Standard": {"model": {"inputs": "words"}}, "Inputless": {"model": {"inputs": "none"}}},
        "method": {
            "LM": {"model": "lstm_lm", "schedule": "constant"},
            "VAE": {"model": {"kind": "lstm_vae", "latent_dim": 3, "samples": 2}},
        },
    },
    "exclude": [{"setting": "Inputless", "method": ["VAE"]}],
    "seeds": [1, 2],
    "resources": {"cpu": 1.0, "gpu": "auto"},
    "table": {"split_by": "dataset", "across": "setting"},
}
README_SPEC = next(
    text for text in re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.S) if "axes:" in text
)
SHIPPED = [path.read_text() for path in sorted((ROOT / "conf" / "sweep").glob("*.yaml"))]
BASES: list[dict[str, Any]] = [SMALL, yaml.safe_load(README_SPEC), *map(yaml.safe_load, SHIPPED)]
WEIGHTS = [40, 40, *(1 for _ in SHIPPED)]  # the shipped grids are large, so slow

NUMBERS = (0, 1, -1, 2, 3, 1.5, 0.5, -0.0, 1e-300, 1e300, 2**31, 2**63 - 1, 2**63, -(2**63) - 1, 10**400, 1e5)
TEXTS = (
    *(
        "",
        " ",
        "lstm_vae",
        "lstm_lm",
        "lines",
        "paper",
        "joint",
        "ptb",
        "auto",
        "bf16",
        "none",
        "null",
        "é",
        "日本",
        "‮x",
    ),
    *("a\nb", "a\tb", "\x1b[31mred\x1b[0m", "\x00", "\x7f", "\x85", "\u2028", "\ud800", "\ud83d\ude00", "😀", "\ufeff"),
    *(
        "'",
        '"',
        "\\",
        "'\"",
        "a.b",
        ".",
        "..",
        "../../etc/passwd",
        "{}",
        "%s",
        "[red]",
        "x" * 300,
        "é" * 20_000,
        "2024-01-01",
    ),
)
SENSIBLE = (1, 2, 3, 8, 0.5, 1.0, True, False, "lstm_vae", "lstm_lm", "lines", "words", "none", "joint", "linear", {})
ODDITIES = tuple(
    map(
        Raw,
        (
            *(
                ".inf",
                "-.inf",
                ".nan",
                "1e3",
                "1.0e+400",
                "010",
                "0x_",
                "0b_",
                "0o7",
                "1_000",
                "1:30:15",
                "-_",
                "=",
                "<<",
            ),
            *(
                "~",
                "yes",
                "off",
                "2024-01-01",
                "2024-99-99",
                "2001-12-14t21:59:43.10-05:00",
                "2001-01-01 00:00:00 +99:99",
            ),
            *(
                "!!int foo",
                "!!int ''",
                "!!int [1]",
                "!!float x",
                "!!bool maybe",
                "!!timestamp x",
                "!!null x",
                "!!str {a: 1}",
            ),
            *(
                "!!binary aGk=",
                "!!binary é",
                "!!binary '='",
                "!!set {a, b}",
                "!!omap [a: 1]",
                "!!pairs [a: 1]",
                "!!map x",
            ),
            *(
                "!!seq x",
                "!!map [a]",
                "!!merge x",
                "!!value x",
                "!foo bar",
                "! x",
                "!<tag:x%1B%0A,1> y",
                "!!python/none",
            ),
            *("!!python/object/apply:os.system ['true']", "!!python/name:os.system", "!!python/tuple [1]", "!a!b c"),
            *(
                "&a x",
                "*a",
                "*nothing",
                "&a [*a]",
                "&a {x: *a}",
                "&a {<<: *a}",
                "{<<: 1}",
                "{<<: [1, {a: b}]}",
                "{<<: {1: 2}}",
            ),
            *("{<<: {model: 1}, model: 2}", "{<<: {a: b}, <<: {c: d}}", "{1: 2}", "{1.5: a}", "{true: a}", "{null: a}"),
            *(
                "{? [a]: b}",
                "{? {a: b}: c}",
                "{[a]: b}",
                "{{}: {}}",
                "{: }",
                "{a: 1, a: 2}",
                "{1: a, 0x1: b}",
                "{a, b}",
                "{? }",
            ),
            *(
                "[",
                "]",
                "{",
                "}",
                "[1, 2",
                "{a: [}",
                "'open",
                '"open',
                '"\\x"',
                '"\\ud800"',
                '"\\U00110000"',
                "|",
                ">\n  x",
            ),
            *(
                "- a",
                "a: b: c",
                "@x",
                "`x`",
                "%x",
                "# x",
                "---",
                "...",
                "? x",
                ", ,",
                "\tx",
                "1" * 5_000,
                "0x" + "f" * 5_000,
            ),
            *("[" * 60, "{a: " * 60, "[" * 55 + "]" * 55, "[" * 60 + "]" * 60, "{a: " * 90 + "1" + "}" * 90),
            *(
                "[" + "1, " * 200 + "1]",
                "!!int " + "9" * 400,
                "1" + ":59" * 500 + ".5",
                "{model: {kind: {}}}",
                "{kind: [x]}",
            ),
            *("{epochs: {a: {b: {c: 1}}}}", "[[[]]]", "{}", "[]", "[{}]", "''", ""),
        ),
    )
)
KEYS = (
    *GROUPS,
    *SpecFields.model_fields,
    "kind",
    "epochs",
    "samples",
    "seed",
    "cell",
    "dataset",
    "hidden_dim",
    "a",
    "<<",
)
OVERRIDES = (
    *(
        "",
        "=",
        "==",
        "=3",
        "a",
        "seeds",
        "seeds=",
        "train=",
        "model=lstm_vae",
        "train=paper",
        "train.epochs=2",
        "name=x",
    ),
    *(
        ".=1",
        "..=1",
        "seeds.=1",
        ".seeds=1",
        "train..epochs=1",
        "train.epochs.x=1",
        "seeds.x=1",
        "axes=[]",
        "base=",
        "axes=",
    ),
    *(
        "model.kind=lstm_vae",
        "model.kind=",
        "model.kind=[]",
        "model.kind={}",
        "seeds=[1,1]",
        "seeds=[]",
        "exclude=[{}]",
    ),
    *(
        "seeds=1000000000000",
        "seeds=9223372036854775807",
        "axes.seed.a={}",
        "axes.method={}",
        "axes.x.y={}",
        "axes.x.y=1",
    ),
    *(
        "base.model=",
        "base.modle=x",
        "resources.gpu=.inf",
        "resources.gpu=1.5",
        "resources.cpu=.nan",
        "train.epochs=1e3",
    ),
    *(
        "train={1: 2}",
        "train={a: {1: 2}}",
        "model={? [a]: b}",
        "base={1: 2}",
        "axes={1: {2: {3: 4}}}",
        "axes.x={1: {}}",
    ),
    *("evaluate.samples=!!int x", "schedule.epochs=1e400", "schedule.epochs=1.0e+400", "update.clip=.inf", "seed=3"),
    *("train" + ".a" * 3_000 + "=1", "a" * 50_000 + "=1", "train.epochs=" + "[" * 60, "train.epochs=" + "9" * 5_000),
    *("train.\x1b[31m=1", "train.epochs=\x1b[31m", "\ud800=1", "train.epochs=\ud800", 'train.epochs="\\e[31m"', "é=1"),
    *(
        "train.epochs=&a [*a]",
        "train=&a {b: *a}",
        "train=*a",
        "name=\n",
        "name=a\nb",
        "train.ep\nochs=1",
        "\x00=\x00",
        "- =1",
    ),
)


def paths(value: Any) -> Iterator[tuple[str, ...]]:
    if isinstance(value, dict):
        for key, member in value.items():
            yield (key,)
            yield from ((key, *path) for path in paths(member))


PATHS = [".".join(path[path[0] == "base" :]) for path in paths(SMALL) if path != ("base",)]


def junk(random: Random) -> Any:
    kind = random.randrange(13)
    if kind >= 10:
        return random.choice(SENSIBLE)
    if kind < 4:
        return random.choice(ODDITIES)
    if kind < 6:
        return random.choice(NUMBERS)
    if kind < 8:
        return random.choice(TEXTS)
    return random.choice((None, True, False, math.inf, -math.inf, math.nan)) if kind == 8 else tree(random)


def tree(random: Random, depth: int = 0) -> Any:
    kind = random.randrange(4 if depth < 6 else 2)
    if kind == 0:
        return random.choice(NUMBERS)
    if kind == 1:
        return random.choice((*TEXTS, *KEYS)) if random.random() < 0.9 else random.choice(ODDITIES)
    members = range(random.randrange(4))
    if kind == 2:
        return [tree(random, depth + 1) for _ in members]
    return {new_key(random): tree(random, depth + 1) for _ in members}


def new_key(random: Random) -> Any:
    if random.random() < 0.6:
        return random.choice(KEYS)
    return random.choice((*TEXTS, *ODDITIES, *NUMBERS, None, True))


def inner_nodes(value: Any) -> Iterator[dict[Any, Any] | list[Any]]:
    if isinstance(value, dict | list):
        yield value
        for child in value.values() if isinstance(value, dict) else value:
            yield from inner_nodes(child)


def mutate(random: Random, document: dict[str, Any]) -> None:
    """One change somewhere in the tree."""
    node = random.choice([node for node in inner_nodes(document) if node] or [document])
    place = random.choice(list(node) if isinstance(node, dict) else range(len(node))) if node else "name"
    change = random.randrange(6)
    if isinstance(node, list) or change < 2:
        node[place] = junk(random)
    elif change == 2:
        node[new_key(random)] = junk(random)
    elif change == 3:
        node[new_key(random) if random.random() < 0.5 else str(place)[::-1]] = node.pop(place)
    elif change == 4:
        del node[place]
    else:
        node[place] = copied(random.choice(list(inner_nodes(document))))


def flow(value: Any, depth: int = 0) -> str:
    if isinstance(value, Raw):
        return value
    if depth > 12:
        return "x"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{flow(key)}: {flow(member, depth + 1)}" for key, member in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(flow(member, depth + 1) for member in value) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else f"{value:+}"[0] + ".inf"
    if isinstance(value, str) and re.fullmatch("[a-z][a-z_]*", value):
        return value
    return (
        str(value)
        if isinstance(value, int) and not isinstance(value, bool)
        else json.dumps(value, ensure_ascii=len(value) > 5 if isinstance(value, str) else True)
    )


def block(value: Any, indent: str = "") -> str:
    """Three levels one key a line, as people write specs, and the rest in brackets."""
    if not isinstance(value, dict) or isinstance(value, Raw):
        return flow(value) + "\n"
    text = ""
    for key, member in value.items():
        nested = isinstance(member, dict) and member and len(indent) < 4
        text += f"{indent}{flow(key)}:" + (f"\n{block(member, indent + '  ')}" if nested else f" {flow(member)}\n")
    return text


def garble(random: Random, data: bytes) -> bytes:
    """One change of the text."""
    at, to = sorted(random.randrange(len(data) + 1) for _ in range(2))
    lines = data.splitlines(keepends=True) or [b""]
    line = random.randrange(len(lines))
    piece = random.choice((*ODDITIES, *TEXTS)).encode("utf-8", "surrogatepass")
    noise = (
        b"\xff",
        b"\xed\xa0\x80",
        b"\xc3",
        b"\x00",
        b"\x1b",
        b"\t",
        b"\r",
        b"\xef\xbb\xbf",
        b"\xfe\xff",
        b": ",
        b"- ",
        b"&a ",
        b"*a",
        b"!!python/none ",
        b"<<: ",
    )
    return random.choice(
        (
            lambda: data[:at] + piece + data[at:],
            lambda: data[:at] + random.choice(noise) + data[at:],
            lambda: data[:at] + data[min(to, at + 20) :],
            lambda: data[:at],
            lambda: b"".join([*lines[:line], lines[line], *lines[line:]]),
            lambda: b"".join([*lines[:line], b"  " + lines[line], *lines[line + 1 :]]),
            lambda: (
                random.choice((b"\xef\xbb\xbf", b"%YAML 1.1\n---\n", b"%FOO\n---\n", b"--- {}\n", b"\t", b"\xff\xfe"))
                + data
            ),
            lambda: (
                data
                + random.choice((b"---\na: b\n", b"...\nx", b"\t", b"<<: {name: x}\n", b"&a a: *a\n", b"? [a]\n: b\n"))
            ),
            lambda: data.decode("utf-8", "replace").encode("utf-16"),
        )
    )()


def override(random: Random) -> str:
    kind = random.randrange(10)
    if kind < 3:
        return random.choice(OVERRIDES)
    if kind < 8:
        return f"{random.choice(PATHS)}={flow(junk(random))}"
    keys = (random.choice(KEYS if random.random() < 0.9 else TEXTS) for _ in range(random.randrange(1, 5)))
    return f"{'.'.join(keys)}={flow(junk(random))}"


def overrides(random: Random) -> list[str]:
    return [override(random) for _ in range(random.choice((0, 0, 0, 0, 1, 2)))]


def copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: copied(member) for key, member in value.items()}
    return [copied(member) for member in value] if isinstance(value, list) else value


def lean(random: Random, document: dict[str, Any]) -> dict[str, Any]:
    """A copy with some of its sections: PyYAML takes milliseconds for a kilobyte."""
    needed = ("name", "base", "axes")
    return {key: copied(value) for key, value in document.items() if key in needed or random.random() < 0.4}


def mutated(random: Random) -> bytes:
    """A valid spec with a few mistakes in it."""
    document = lean(random, random.choices(BASES, WEIGHTS)[0])
    for _ in range(random.choice((0, 1, 1, 1, 2, 3))):
        mutate(random, document)
    data = block(document).encode("utf-8", "surrogatepass")
    return garble(random, data) if random.random() < 0.3 else data


def noise(random: Random) -> bytes:
    """YAML of no spec, or no YAML."""
    kind = random.randrange(4)
    if kind < 2:
        keys = (
            random.choice(list(SpecFields.model_fields)) if random.random() < 0.8 else new_key(random) for _ in range(4)
        )
        return block({key: tree(random) for key in keys} if kind else tree(random)).encode("utf-8", "surrogatepass")
    if kind == 2:
        return random.randbytes(random.randrange(200))
    return "".join(
        random.choice("ab:- \n\t{}[],&*!|>'\"%@`#?~<=.0\\é\x1b") for _ in range(random.randrange(200))
    ).encode()


def steps(spec: SweepSpec) -> None:
    cells = spec.cells()
    for cell in cells[:4]:
        for seed in spec.seeds[:1]:
            spec.trial_config(cell, seed)


def check(folder: Path, data: bytes, texts: Sequence[str]) -> str | None:
    """The sentence that refuses the spec, if any, after every rule for it."""
    file = folder / "spec.yaml"
    file.write_bytes(data)
    begun = time.monotonic()
    sentence = None
    try:
        steps(SweepSpec.load(str(file), texts))
    except ValueError as error:
        sentence = str(error)
    assert time.monotonic() - begun < SECONDS
    if sentence is not None:
        assert_names_its_place(sentence, str(file), data, texts)
    return sentence


def assert_names_its_place(sentence: str, file: str, data: bytes, texts: Sequence[str]) -> None:
    assert sentence.isprintable(), repr(sentence)
    assert len(sentence) < 2000, len(sentence)
    in_file = re.match(re.escape(file) + r"(?::(\d+))?: (.+)", sentence)
    if in_file:
        assert int(in_file[1] or 1) <= len(data.decode("utf-8", "replace").splitlines()) + 1
        return
    if sentence.startswith("override '"):
        assert any(sentence.startswith(f"override '{text[:20] if text[:20].isprintable() else ''}") for text in texts)
        return
    group = sentence.partition(": ")[0].partition(".")[0]
    assert group in GROUPS, sentence
    assert any(text.startswith(group) for text in texts), sentence


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.mark.long
@examples(6800)
@given(SEEDS)
def test_many_specs_with_mistakes_are_taken_or_refused_in_one_sentence(folder: Path, seed: int) -> None:
    random = Random(seed)
    check(folder, mutated(random), overrides(random))


@examples(600)
@given(SEEDS)
def test_a_spec_with_mistakes_is_taken_or_refused_in_one_sentence(folder: Path, seed: int) -> None:
    random = Random(seed)
    check(folder, mutated(random), overrides(random))


@examples(1500)
@given(SEEDS)
def test_what_is_no_spec_is_refused_in_one_sentence(folder: Path, seed: int) -> None:
    random = Random(seed)
    check(folder, noise(random), overrides(random))


@examples(1500)
@given(SEEDS)
def test_overrides_are_taken_or_refused_in_one_sentence(folder: Path, seed: int) -> None:
    random = Random(seed)
    check(
        folder,
        block(lean(random, random.choice(BASES[:2]))).encode(),
        [override(random) for _ in range(random.randrange(1, 4))],
    )


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
for below, name in zip("abcdefghij", "bcdefghijk", strict=True):
    BOMB += f"{name}: &{name} [{', '.join([f'*{below}'] * 10)}]\n"
MERGE_BOMB = "a: &a {x: 1}\n" + "".join(
    f"{name}: &{name} {{<<: [{', '.join([f'*{below}'] * 10)}]}}\n"
    for below, name in zip("abcdefghij", "bcdefghijk", strict=True)
)
HEAD = "name: x\nbase: {model: lstm_lm}\n"
TEN = "{" + ", ".join(f"L{number}: {{}}" for number in range(10)) + "}"
LARGE = {
    "an alias bomb": (BOMB, "more than 1,000,000 characters"),
    "an alias bomb of a key": (HEAD + "seeds: 1\n" + BOMB, "more than 1,000,000 characters"),
    "a merge bomb": (MERGE_BOMB, "more than 1,000,000 characters"),
    "long text repeated": (f"a: &a {'x' * 50_000}\nb: [{'*a, ' * 50}]\n", "more than 1,000,000 characters"),
    "a long file": ("#" * 1_000_001, "more than 1,000,000 characters"),
    "an alias in itself": (HEAD + "about: &a [*a]\n", "an alias stands within what it names"),
    "a chain of aliases": (
        "a0: &a0 []\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 100)),
        "nested deeper than 50",
    ),
    "brackets": (HEAD + "about: " + "[" * 20_000, "nested deeper than 50"),
    "braces": (HEAD + "about: " + "{a: " * 20_000, "nested deeper than 50"),
    "dashes": (HEAD + "about:\n  " + "- " * 20_000, "nested deeper than 50"),
    "a giant grid": (HEAD + "axes: {" + ", ".join(f"a{n}: {TEN}" for n in range(60)) + "}", "make more than 10,000"),
    "an endless number of labels": (
        HEAD + "axes: {" + ", ".join(f"a{n}: {{x: {{}}, y: {{}}}}" for n in range(3_000)) + "}",
        "make more than 10,000 trials",
    ),
    "seeds for ever": (HEAD + "seeds: 9223372036854775807", "make more than 10,000 trials"),
    "seeds for ever of no trial": (HEAD + "axes: {a: {}}\nseeds: 9223372036854775807", "make more than 10,000 trials"),
    "a huge number": (HEAD + f"seeds: {10**400}", "below 2^63 in size"),
    "a longer number": (HEAD + "seeds: " + "9" * 50_000, "is no int"),
    "a long key": (HEAD + "? " + "k" * 900_000 + "\n: 1", "unknown key"),
    "a long label": (HEAD + "axes: {a: {? " + "L" * 900_000 + " : {modle: 1}}}", "unknown group 'modle'"),
    "long names that are alike": (
        HEAD + f"axes: {{a: {{? {'L' * 90_000} : {{}}}}}}\nexclude: [{{a: {'L' * 89_999}}}]",
        "unknown label of axis a",
    ),
}


@pytest.mark.parametrize("case", LARGE)
def test_what_unfolds_beyond_measure_is_refused_at_once(folder: Path, case: str) -> None:
    text, expected = LARGE[case]
    sentence = check(folder, text.encode(), ())
    assert sentence is not None
    assert expected in sentence, sentence


def test_the_largest_grid_is_planned_in_seconds(folder: Path) -> None:
    axes = "axes: {" + ", ".join(f"a{n}: {TEN}" for n in range(4)) + "}"
    assert check(folder, (HEAD + axes).encode(), ()) is None


@pytest.fixture
def planned(tmp_path: Path, lines_corpus: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    """`sweep plan` in this process: its exit code and what it wrote to standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SWEEP_CORPORA", str(lines_corpus))
    monkeypatch.setenv("SWEEP_RESULTS", str(tmp_path / "results"))
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)

    def run(*arguments: str) -> tuple[int, str]:
        # Files as a process has them, which hold bytes and so refuse what no encoding has.
        out, errors = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
        monkeypatch.setattr(sys, "argv", ["sweep", "plan", "--", *arguments])
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors), pytest.raises(SystemExit) as ended:
            main()
        errors.flush()
        assert isinstance(ended.value.code, int)
        return ended.value.code, errors.buffer.getvalue().decode()  # type: ignore[attr-defined]

    return run


@examples(200)
@given(SEEDS)
def test_the_command_line_ends_in_one_line(planned: Callable[..., tuple[int, str]], seed: int) -> None:
    random = Random(seed)
    document = lean(random, random.choice(BASES[:2]))
    if random.random() < 0.6:
        mutate(random, document)
    data = block(document).encode("utf-8", "surrogatepass")
    Path("spec.yaml").write_bytes(garble(random, data) if random.random() < 0.1 else data)
    source = "spec.yaml" if random.random() < 0.95 else random.choice((*TEXTS, *KEYS)).replace("\0", "")
    # An argument of a process is bytes, which Python reads so.
    texts = [text.encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape") for text in overrides(random)]
    code, errors = planned(source, *(text.replace("\0", "") for text in texts))
    assert code in (0, 2)
    lines = [line for line in errors.splitlines() if not line.startswith("warning: ")]
    assert len(lines) == (1 if code else 0), errors
    if code:
        assert lines[0].startswith("error: ")
        assert lines[0].isprintable()
        assert len(lines[0]) < 2000
