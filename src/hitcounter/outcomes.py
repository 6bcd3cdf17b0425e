"""What can become of a hit, in the words of metrics, documents and answers."""

from hitcounter.errors import STATUSES

COUNTED = "counted"  # what became of a hit that was acknowledged
STORED = "stored"
RESULTS_OF_OTHERS = ("unknown_site", "too_many_sites", "bad_site")  # of no declared site
_OF_NO_HIT = ("not_found", "foreign_host", "store_unfit")
# What can become of a hit of a declared site.
RESULTS = (
    *(COUNTED, STORED, "prefetch", "robot", "own", "limited", "repeat"),
    *(code for code in STATUSES if code not in RESULTS_OF_OTHERS + _OF_NO_HIT),
)
