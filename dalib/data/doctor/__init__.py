"""A doctor for labels: what would spoil a training, found before it.

    from dalib.data.doctor import examine
    report = examine("depth:my_pairs", against=("depth:my_test_set",))
    print(report)
    report.write("checked")  # report.json and sheet.png

One pass over the images, whose pixels are let go at once. What is looked for stands in
`dalib.data.doctor.rules`, how a collection is walked in
`dalib.data.doctor.walk`.
"""

from dalib.data.doctor.report import Finding, Report
from dalib.data.doctor.rules import RULES, Rule
from dalib.data.doctor.walk import examine

__all__ = ["RULES", "Finding", "Report", "Rule", "examine"]
