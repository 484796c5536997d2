"""The declarations of each piece of evidence: the parts of a model it uses, and the settings for its size."""

from __future__ import annotations

from dataclasses import fields
from functools import cached_property
from pydoc import locate
from typing import get_args

import pytest

from bench.evaluation.evidence import SOURCES, evidence_in, evidence_of
from bench.evaluation.evidence.decorator import Evidence, Part, evidence
from bench.evaluation.settings import EvaluationSettings
from tests.conftest import MODELS

DECLARED = {name: piece for kind in SOURCES for name, piece in evidence_in(kind).items()}
PARTS = set(get_args(Part))


class Source:
    def __init__(self):
        self.calls = 0

    @evidence(asks=("encode", "decode"), sized_by=("samples",), features=True, cached=True)
    def cached(self) -> int:
        """Documented."""
        self.calls += 1
        return self.calls

    @evidence()
    def uncached(self) -> int:
        self.calls += 1
        return self.calls


def test_a_decorated_method_is_a_property_with_its_declarations():
    source = Source()
    assert (source.cached, source.cached, source.uncached, source.uncached) == (1, 1, 2, 3)
    assert Source().cached == 1, "each object has its own value"
    piece = Source.cached
    assert (piece.asks, piece.sized_by, piece.features, piece.__doc__) == (
        ("encode", "decode"),
        ("samples",),
        True,
        "Documented.",
    )
    assert evidence_in(Source) == {"cached": Source.cached, "uncached": Source.uncached}
    getters = evidence_of(Source())
    assert [getters[name]() for name in ("uncached", "cached", "cached")] == [1, 2, 2]


@pytest.mark.parametrize("kind", SOURCES, ids=lambda kind: kind.__name__)
def test_every_public_property_is_evidence(kind):
    properties = {name for name, member in vars(kind).items() if isinstance(member, property | cached_property)}
    assert not {name for name in properties if name[0] != "_"} - {"test", "validation", "train_subset", "subsets"}, (
        "batches and masks are no evidence"
    )
    assert evidence_in(kind) and not {name for name in evidence_in(kind) if name[0] == "_"}


def test_the_names_of_evidence_are_unique():
    assert len(DECLARED) == sum(len(evidence_in(kind)) for kind in SOURCES)


@pytest.mark.parametrize("name", sorted(DECLARED))
def test_evidence_asks_for_known_parts_and_known_settings(name):
    piece = DECLARED[name]
    assert isinstance(piece, Evidence)
    assert set(piece.asks) <= PARTS
    assert set(piece.sized_by) <= {field.name for field in fields(EvaluationSettings)}


def test_all_parts_and_sizes_are_used():
    assert {part for piece in DECLARED.values() for part in piece.asks} == PARTS
    sizes = {field.name for field in fields(EvaluationSettings)} - {"names", "noise_levels"}
    assert {key for piece in DECLARED.values() for key in piece.sized_by} == sizes


@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_notes_of_a_model_are_about_known_parts(name):
    assert locate(MODELS[name]["_target_"]).notes.keys() <= PARTS


def test_derived_evidence_declares_what_its_source_declares():
    """A note about the encoder also applies to evidence derived from codes."""
    derived = {
        "subset_codes": "test_codes",
        "code_neighbours": "test_codes",
        "latent_midpoint_to_train": "test_codes",
        "own_component": "test_codes",
        "subset_posterior_codes": "posterior_codes",
        "subset_prior_codes": "prior_codes",
        "sample_features": "samples",
        "sample_class": "sample_features",
        "sample_to_train": "sample_features",
        "reencoded": "samples",
        "decoded": "sampled_codes",
    }
    for name, source in derived.items():
        assert set(DECLARED[name].asks) >= set(DECLARED[source].asks), name
        assert set(DECLARED[name].sized_by) >= set(DECLARED[source].sized_by), name
        assert DECLARED[name].features >= DECLARED[source].features, name
