"""Reports: what a run did, as one offline HTML page with pictures and as JSON with the same figures.

`write_report` writes both. A run that failed has a report too: what is known of it, and why it ended.
"""

from .summary import run_checks, run_verdict, summarize
from .write import write_report

__all__ = ["run_checks", "run_verdict", "summarize", "write_report"]
