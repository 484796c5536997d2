"""The evidence that metrics are computed from: facts about the images, and what a model makes of them.

A metric requests evidence by its parameter names. Each piece is one method with the `evidence` decorator. Evidence that
must be equal for all models and seeds (binarised or dequantised images, the noise on them) is drawn with seed 0, the
rest with the run's seed. Tensors are on the CPU; images are float32 [N, C, H, W].
"""

from __future__ import annotations

from bench.evaluation.evidence.answers import Answers, CorruptedAnswers, denoising_corruption
from bench.evaluation.evidence.critics import Critics
from bench.evaluation.evidence.decorator import evidence_in, evidence_of
from bench.evaluation.evidence.densities import Densities
from bench.evaluation.evidence.images import CorruptedImages, Images, images_of, validation_images_of
from bench.evaluation.evidence.translations import Stages, Translations, permuted
from bench.evaluation.evidence.traversals import Traversals, one_hot_conditions, traversed

__all__ = [
    "SOURCES",
    "Answers",
    "CorruptedAnswers",
    "CorruptedImages",
    "Critics",
    "Densities",
    "Images",
    "Stages",
    "Translations",
    "Traversals",
    "denoising_corruption",
    "evidence_in",
    "evidence_of",
    "images_of",
    "one_hot_conditions",
    "permuted",
    "traversed",
    "validation_images_of",
]

SOURCES = (
    Images,
    CorruptedImages,
    Answers,
    CorruptedAnswers,
    Translations,
    Traversals,
    Densities,
    Critics,
)  # all with evidence
