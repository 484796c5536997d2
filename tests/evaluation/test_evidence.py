"""What each piece of evidence declares: the parts of a model that it uses, and the settings that size it."""

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
    def kept(self) -> int:
        """Documented."""
        self.calls += 1
        return self.calls

    @evidence()
    def fresh(self) -> int:
        self.calls += 1
        return self.calls


def test_a_decorated_method_is_a_property_that_says_what_it_depends_on():
    source = Source()
    assert (source.kept, source.kept, source.fresh, source.fresh) == (1, 1, 2, 3)
    assert Source().kept == 1, "each object keeps its own value"
    piece = Source.kept
    assert (piece.asks, piece.sized_by, piece.features, piece.__doc__) == (
        ("encode", "decode"),
        ("samples",),
        True,
        "Documented.",
    )
    assert evidence_in(Source) == {"kept": Source.kept, "fresh": Source.fresh}
    offered = evidence_of(Source())
    assert [offered[name]() for name in ("fresh", "kept", "kept")] == [1, 2, 2]


@pytest.mark.parametrize("kind", SOURCES, ids=lambda kind: kind.__name__)
def test_every_public_property_is_evidence(kind):
    properties = {name for name, member in vars(kind).items() if isinstance(member, property | cached_property)}
    assert not {name for name in properties if name[0] != "_"}
    assert evidence_in(kind) and not {name for name in evidence_in(kind) if name[0] == "_"}


def test_each_name_stands_for_one_piece_of_evidence():
    assert len(DECLARED) == sum(len(evidence_in(kind)) for kind in SOURCES)


@pytest.mark.parametrize("name", sorted(DECLARED))
def test_evidence_asks_for_known_parts_and_known_settings(name):
    piece = DECLARED[name]
    assert isinstance(piece, Evidence)
    assert set(piece.asks) <= PARTS
    assert set(piece.sized_by) <= {field.name for field in fields(EvaluationSettings)}


def test_each_part_and_each_size_is_used():
    assert {part for piece in DECLARED.values() for part in piece.asks} == PARTS
    sizes = {field.name for field in fields(EvaluationSettings)} - {"names", "noise_levels"}
    assert {key for piece in DECLARED.values() for key in piece.sized_by} == sizes


@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_notes_of_a_model_are_about_known_parts(name):
    assert locate(MODELS[name]["_target_"]).notes.keys() <= PARTS


def test_evidence_declares_what_the_evidence_it_is_derived_from_declares():
    """A note about the encoder must also stand beside what is derived from codes."""
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
