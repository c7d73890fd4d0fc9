"""What can go wrong in answering.

GeneratorError
├── CitationOutOfEvidence   a model pointed at something it was not given
└── CalibrationMissing      no measured thresholds for this retriever and generator
"""


class GeneratorError(Exception):
    """Base of all errors of this package; the message names the value, the rule and the way out."""


class CitationOutOfEvidence(GeneratorError):
    """A model pointed at something it was not given."""


class CalibrationMissing(GeneratorError):
    """No measured thresholds for this retriever and generator."""
