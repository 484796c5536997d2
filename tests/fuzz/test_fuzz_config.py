"""Malformed command lines: one clear line, exit code 1, and nothing created in a wrong place."""

from __future__ import annotations

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from tests.conftest import config_of
from tests.fuzz.conftest import IS_LONG

CHOICES = [
    (), ("model=vae", "network.hidden=16"), ("model=aae", "network=conv", "network.hidden=4"), ("dataset=arrays",),
    ("dataset=images",), ("dataset=mnist",), ("dataset=blobs",), ("noise=gaussian",), ("schedule=steps",),
]  # fmt: skip
# Settings whose large values are only slow, and those that start other programs.
LEFT_OUT = ("budget.", "metrics.", "checkpoint", "limit", "lease", "attempts", "isolate", "tracking.", "stack", "rerun")


def leaves(value: object, key: str = "") -> dict[str, object]:
    """The settings of a configuration, by their dotted keys."""
    if isinstance(value, dict) and value:
        inner = [leaves(item, f"{key}.{name}" if key else name) for name, item in value.items()]
        return {name: item for part in inner for name, item in part.items()}
    return {key: value}


SCHEMA = {choice: leaves({k: v for k, v in config_of(*choice).items() if k != "choices"}) for choice in CHOICES}
GROUPS = [
    "model", "dataset", "network", "likelihood", "prior", "noise", "optimizer", "schedule", "budget", "metrics",
    "tracking", "adversarial", "experiment", "paths", "hydra/launcher",
]  # fmt: skip
HYDRA = ["hydra.run.dir", "hydra.sweep.dir", "hydra.job.chdir", "hydra", "hydra.run", "hydra.sweeper.params"]

SCALARS = [
    "null", "nan", "-inf", "1e400", "-1", "0", "1.5", "1" * 30, "9" * 10, "true", "abc", "''", "' '", "a b", "ä",
    "'a'", "..", "/", "../../x", "'~nobody/x'", "a" * 300, "a/" * 3000, '"\x1b[31mred"', '"a\nb"', '"\t"', '"\x9b2J"',
    "os.system", "bench.models.vae.VAE", "torch.nn.Linear",
]  # fmt: skip
STRUCTURES = [
    "[]", "{}", "[a,b]", "[null]", "[1,[2]]", "{a:1}", "{a:{b:null}}", "{1:2}", "[nan]", '["\x1b[0m"]', '{"a\nb":1}',
    "[" * 200 + "]" * 200, "[" * 3000, "{a:[1,{b:2}]}",
]  # fmt: skip
OTHERS = [
    "${seeds}", "${nothing}", "${oc.env:NOTHING}", "${model}", "${now:%Y}", "${", "1,2", "choice(1,2)", "range(3)",
    "glob(*)", "shuffle(1,2)", "int(abc)", "str([1])", "\\", "'", '"', "=", "a=b", "@", "",
]  # fmt: skip
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20).map(
    lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
)
VALUES = st.sampled_from([*SCALARS, *STRUCTURES, *OTHERS]) | TEXTS


@st.composite
def words(draw) -> list[str]:
    """A command line with one to three overrides that are probably wrong."""
    choice = draw(st.sampled_from(CHOICES))
    settings_of = [key for key in SCHEMA[choice] if not key.startswith(LEFT_OUT)]
    found = [*choice]
    for _ in range(draw(st.integers(1, 3))):
        key = draw(st.sampled_from(settings_of) | st.sampled_from([*GROUPS, *HYDRA]))
        kind = draw(st.sampled_from(["=", "=", "=", "=", "+", "++", "~", "@", "new", "bare", "-m"]))
        value = draw(VALUES)
        found += {
            "=": [f"{key}={value}"], "+": [f"+{key}={value}"], "++": [f"++{key}={value}"], "~": [f"~{key}"],
            "@": [f"{key}@{draw(st.sampled_from(['x', 'model', '_global_', '']))}={value}"], "bare": [key],
            "new": [f"+{key}.x={value}"], "-m": ["-m", f"{key}={value}"],
        }[kind]  # fmt: skip
    return found


@settings(max_examples=200 if IS_LONG else 20)
@example(["hydra.run.dir=:"])  # the name of a folder that a user may choose
@given(words())
def test_a_drawn_command_line_ends_in_one_clear_line(run, drawn):
    result = run(*drawn)
    result.check()
    assume(result.code == 1)  # the others were not wrong


# Values that no setting of a kind of value may have.
WRONG = {
    bool: ["abc", "[true]", "{a:1}", "1.5", "''", "null"],
    int: ["abc", "[1]", "{a:1}", "1.5", "nan", "-1", "1" * 30],
    float: ["abc", "[1]", "{a:1}", "nan", "inf", "-1", "''"],
    str: ["[a]", "{a:1}", '"\x1b[31m"', '"a\nb"'],
    list: ["abc", "{a:1}", "1.5", "null"],
}


@st.composite
def wrong_settings(draw) -> list[str]:
    """A setting that has a value of a kind that it cannot have."""
    choice = draw(st.sampled_from([choice for choice in CHOICES if choice]))
    unused = () if "model=aae" in choice else ("adversarial.",)  # whose values are not read
    known = {key: type(value) for key, value in SCHEMA[choice].items() if not key.startswith(unused)}
    key = draw(st.sampled_from(sorted(key for key in known if known[key] in WRONG)))
    wrong = f"{key}={draw(st.sampled_from(WRONG[known[key]]))}"
    assume(wrong not in ACCEPTED)
    assume("dataset=arrays" not in choice or key.startswith("dataset."))  # a path is missing, which is named first
    return ["model=vae", "network.hidden=16", *choice, wrong]


# Which mean "none", "all" and "as torch chooses".
ACCEPTED = ("checkpoint.minutes=null", "limit.minutes=null", "metrics.names=null", "optimizer.fused=null")


@settings(max_examples=100 if IS_LONG else 20)
@given(wrong_settings())
def test_a_drawn_value_of_a_wrong_kind_is_refused(run, drawn):
    result = run(*drawn)
    result.check()
    assert result.code == 1, result
    assert drawn[-1].split("=")[0].split(".")[0] in result.lines[0], result


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["model=null"], ["model=null", "choose an option"]),
        (["~seeds"], ["seeds is missing"]),
        (["dry_run=" + 150 * "[" + 150 * "]"], ["nested too deeply"]),
        (["model=vae", "optimizer.fused=abc"], ["optimizer.fused='abc'", "boolean"]),
        (["~paths"], ["paths.results"]),
        (["~allow"], ["allow is missing"]),
        (["model._target_=null"], ["model._target_=None", "dotted name"]),
        (["dataset._target_=null"], ["dataset._target_=None", "dotted name"]),
        (["model=vae", "network._target_=null"], ["network._target_=None", "dotted name"]),
        (["paths.results=[a,b]"], ["paths.results", "['a', 'b']"]),
        (["paths.results=null"], ["paths.results=None"]),
        (["paths.results=''"], ["paths.results=''"]),
        (['paths.results="a\nb"'], ["paths.results", "control character"]),
        (['paths.results="a\x1b[31mb"'], ["paths.results", r"'\x1b'"]),
        (["paths.results='~nobody-of-this-name/x'"], ["paths.results", "no user"]),
        (["paths.results=" + "a" * 300], ["paths.results", "shorter"]),
        (["paths.cache=[a]"], ["paths.cache"]),
        (['paths.cache="\x1b"'], ["paths.cache"]),
        (["sweep=null"], ["sweep"]),
        (["sweep=[a]"], ["sweep"]),
        (["sweep=" + "a" * 300], ["sweep", "200"]),
        (["hydra.run.dir=[a]"], ["hydra.run.dir"]),
        (["dataset=arrays", "dataset.path=[a,b]"], ["dataset.path"]),
        (["dataset=images", 'dataset.root="a\nb"'], ["dataset.root", "control character"]),
        (['dataset.name="\x1b[31mx"'], ["dataset.name", "control character"]),
        (["model=vae", "network.hidden=1000000000"], ["memory", "make its networks smaller"]),
        (["model=vae", "network.depth=100000"], ["network.depth=100000", "1000"]),
        (["model=vae", "model.latent_dim=2000000000"], ["make its networks smaller"]),
        (["dataset=blobs", "dataset.features=1000000000"], ["dataset.features", "memory"]),
        (["model.requires=5"], ["model.requires=5", "list"]),
        (["metrics=null"], ["metrics=null", "choose an option"]),
        (["checkpoint=null"], ["checkpoint"]),
        (["device=meta"], ["device=meta"]),
        (["--nonsense"], ["--nonsense", "bench --help"]),
        (["seeds=" + "[" * 3000], ["seeds"]),
        (['+"a\x1b[31m"=1'], ["\\x1b"]),
    ],
)
def test_what_gave_a_traceback_or_a_folder_gives_one_line(run, arguments, words):
    result = run(*arguments)
    result.check()
    assert result.code == 1, result
    for word in words:
        assert word in result.lines[0], result


@example("\x1b[31m")
@given(st.text(max_size=30))
def test_printable_text_is_one_line_without_controls(text):
    from bench.runs.output import printable

    shown = printable(text)
    assert len(shown.splitlines()) <= 1 and not any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in shown)
    assert printable(shown) == shown
    shown.encode()  # raises for halves of surrogate pairs
