"""What can become of a hit, in the words of metrics, documents and answers."""

COUNTED = "counted"  # what became of a hit that was acknowledged
STORED = "stored"
# What can become of a hit of a declared site, and what only of others.
RESULTS = (
    COUNTED,
    STORED,
    "prefetch",
    "robot",
    "own",
    "limited",
    "flood",
    "repeat",
    "unsettled",
    "foreign_origin",
    "method_not_allowed",
    "bad_path",
    "bad_query",
    "bad_lang",
    "bad_json",
    "bad_content_type",
    "too_large",
    "slow_body",
    "bad_request",
    "head_too_large",
    "store_unavailable",
    "journal_full",
    "journal_failed",
    "outcome_unknown",
    "overloaded",
    "internal",
)
RESULTS_OF_OTHERS = ("unknown_site", "too_many_sites", "bad_site")
