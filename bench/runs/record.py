"""The schema of record.json, and whether a record follows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict  # Pydantic accepts that of typing from Python 3.12 on

SCHEMA = 4

Status = Literal[
    "ok",
    "diverged",  # a loss was not finite: a result, and not run again
    "failed",  # raised: run again by the same command
    "out_of_memory",  # of the machine or the GPU: run again by the same command
    "timeout",  # took longer than limit.minutes: continued by the same command with a higher limit
    "crashed",  # its process died `attempts` times: continued by the same command with more attempts
    "interrupted",  # by a signal such as Ctrl-C: continued by the same command
    "skipped",  # a combination that makes no sense; `reason` says why
]

RESULTS = ("ok", "diverged", "skipped")  # statuses that the same command does not try to change
UNEVALUATED = "its evaluation did not finish"  # the reason of a seed that is trained
FAILURES = ("failed", "out_of_memory", "timeout", "crashed")  # statuses that end a command with exit code 1

Number = Annotated[float, Field(allow_inf_nan=False)]


class Metric(TypedDict):
    """One number, or why there is none."""

    value: Number | None  # null: n/a, for `reason`
    better: Literal["lower", "higher", "closest"] | None
    ideal: Number | None  # the best value, if better is "closest"
    se: Number | None  # standard error over test images, if the metric is a mean over them
    n: int | None  # test images or samples that it is based on
    floor: Number | None  # the value of real data, of a second draw of the prior, or without codes
    unit: str
    reason: str | None  # why it is n/a, or a remark on the value
    settings: dict[str, Number | None]  # the evaluation settings it depends on: samples, chains, ...
    details: dict[str, Number | str | None]  # the acceptance rate of annealing, the hash of the features, ...


class DataNote(TypedDict):
    """The data of a run."""

    fingerprint: Annotated[str, Field(min_length=1)]  # a hash of every pixel, label, factor and group
    range: NotRequired[
        Annotated[list[Number], Field(min_length=2, max_length=2)] | None
    ]  # not in schema 2: the stored values that became 0 and 1
    train: int  # images
    validation: int
    test: int
    image: Annotated[list[int], Field(min_length=2, max_length=4)]  # channels and sides, of images height and width
    classes: int  # 0: no labels
    source: NotRequired[list[int] | None]  # channels, height, width of the sources; from schema 4 on
    conditions: NotRequired[dict[str, list[int]]]  # the shape of each condition; from schema 4 on


class LikelihoodKey(TypedDict):
    """Log-likelihoods may be compared if all of these are equal."""

    dataset: str
    binarize: str  # none, static, dynamic
    dequantize: bool
    measure: Literal["density", "mass", "unnormalised"]
    conditional: bool  # on a label


class ValidationNote(TypedDict):
    """What training did with the validation split."""

    every: int  # epochs from one measurement of the losses to the next
    seconds: Number  # that it took, which are not part of those of training
    step: int  # whose weights were kept
    value: Number | None  # of budget.monitor, with these weights; null: there is none
    stopped: int | None  # the step at which the patience was over
    losses: dict[str, Number | None]  # player: at the end of training
    late: dict[str, Number | None]  # before the last tenth of training: validation/loss/<player>, validation/<metric>
    late_step: int | None  # after which these were measured: the end of an epoch


class TuningNote(TypedDict):
    """A trial of a tuning, the default settings beside it, or the best settings of all trials."""

    trial: str  # its number, default, or best
    objective: str  # validation/<metric>
    space: Literal["own", "learning rates"]  # what was tuned: the model's own space, or only its learning rates
    settings: dict[str, Any]  # of the trial, or of the best one
    values: list[Number | None]  # of the objective, by trial; empty unless it is the best
    reasons: list[str | None]  # why a trial has no value
    chosen: int | None  # the best trial


class Code(TypedDict):
    version: str | None
    commit: str | None  # null: not run from a git checkout
    dirty: bool | None  # the checkout differed from its commit
    own: NotRequired[dict[str, str]]  # the user's packages that the config names: the folder of each


class Hardware(TypedDict):
    cpu: str
    cores: int | None
    memory_gib: float
    device: str  # what it was trained on
    threads: int  # torch's


class Config(TypedDict):
    """The values of the groups that identify a run; null if the model does not use a group."""

    model: dict[str, Any]
    likelihood: dict[str, Any] | None
    dataset: dict[str, Any] | None
    noise: dict[str, Any] | None
    prior: dict[str, Any] | None
    adversarial: dict[str, Any] | None
    network: dict[str, Any] | None
    optimizer: dict[str, Any] | None
    schedule: dict[str, Any] | None
    budget: dict[str, Any] | None


class Record(TypedDict):
    """record.json. null means unused, unknown or not finite; there is no NaN."""

    schema: int
    id: str  # `identity` of the config
    name: str  # readable: vae-bernoulli-digits-none
    sweep: str
    seed: int
    status: Status
    reason: str | None  # one line, if status is not ok
    traceback: str | None  # if status is failed
    choices: dict[str, str | None]  # group: option; null if the model does not use the group
    config: Config
    data: DataNote | None
    likelihood_key: LikelihoodKey | None
    code: Code
    libraries: dict[str, str]  # name: version
    hardware: Hardware
    seeds_stacked: list[int]  # the seeds that were trained together, this one included
    steps: int  # done
    seconds: float  # of training; stacked seeds share their time evenly
    evaluation_seconds: NotRequired[float | None]  # of metrics and pictures, as of version 0.2
    samples_per_second: float | None
    gradient_norms: dict[str, Number | None] | None  # of the first and the last layer's weights, in the first 20 steps
    weights: NotRequired[str | None]  # the checksum of weights.safetensors, as of version 0.2
    parameters: dict[str, int]  # player: count, and total (players may overlap)
    validation: NotRequired[ValidationNote | None]  # null: no gradient training; as of version 0.2
    tuning: NotRequired[TuningNote | None]  # as of version 0.2
    metrics: dict[str, Metric]
    warnings: list[str]
    started: str  # ISO 8601 with time zone
    finished: str


_ADAPTER = TypeAdapter(Record)


def problem(record: Mapping[str, Any]) -> str | None:
    """Why this is no `Record`, as "metrics.elbo.value: input should be a valid number"; None if it is one."""
    try:
        _ADAPTER.validate_python(record, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        message = first["msg"][:1].lower() + first["msg"][1:]
        return f"{'.'.join(map(str, first['loc']))}: {message}"
    if record["status"] == "ok" and record["data"] is None:
        return "data: a run that is ok has data"
    for name, metric in record["metrics"].items():
        if metric["better"] == "closest" and metric["ideal"] is None:
            return f"metrics.{name}.ideal: closest is better, so there is an ideal value"
    return None
