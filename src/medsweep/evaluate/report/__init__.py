"""What people read of an evaluation: reports/report.html, reports/model_card.md and reports/claim_checklist.md."""
