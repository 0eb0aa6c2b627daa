"""The audit: what is wrong with a data set, before anything is trained on it."""

from __future__ import annotations

from octoscope.scans.audit.dropping import without_copies
from octoscope.scans.audit.duplicates import duplicate_findings as copy_findings
from octoscope.scans.audit.finding import Finding
from octoscope.scans.audit.result import Audit
from octoscope.scans.audit.run import audit
from octoscope.scans.audit.terminal import print_audit

__all__ = ["Audit", "Finding", "audit", "copy_findings", "print_audit", "without_copies"]
