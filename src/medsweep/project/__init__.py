"""A project of one's own: its files, what is found out about its data, and the code that its results come from."""
