"""Model + image → heat map: one method a file, and the checks that say whether a method may be believed."""
