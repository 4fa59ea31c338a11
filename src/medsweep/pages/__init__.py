"""What all of medsweep's HTML pages share: one style sheet, one frame, and how pictures get inside."""
