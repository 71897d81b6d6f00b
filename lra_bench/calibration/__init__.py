"""Does the harness see what the field knows? Checks whose outcome is known before they run, and their verdicts.

A check (`configs/calibration/*.yaml`) names runs and what must come of them. Its runs are ordinary ones, in a results
folder, `sweeps.entrants`; `verdicts` says what their scores mean, `made` by which code they are, `report` shows it.
"""

from lra_bench.calibration.report import page, report
from lra_bench.calibration.verdicts import DIFFERS, Verdict, verdicts

__all__ = ["DIFFERS", "Verdict", "page", "report", "verdicts"]
