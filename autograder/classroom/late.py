"""The late policy: a share of the score per started day, up to a limit, after a time that costs nothing."""

from __future__ import annotations

import math

from nbgrader.plugins import BasePlugin
from traitlets import Float


class PerDay(BasePlugin):
    """Change it in nbgrader_config.py, as in `c.PerDay.share = 0.2`; `c.PerDay.share = 0` switches it off."""

    share = Float(0.10, help="part of the score that each started day costs").tag(config=True)
    most = Float(0.50, help="part of the score that lateness can cost at most").tag(config=True)
    free_s = Float(900.0, help="seconds that cost nothing").tag(config=True)

    def late_submission_penalty(self, student_id: str, score: float, total_seconds_late: float) -> float | None:
        """Points to take off, or None."""
        if total_seconds_late <= self.free_s:
            return None
        days = math.ceil(total_seconds_late / 86400)
        return round(score * min(self.most, self.share * days), 2)
